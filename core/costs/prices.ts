import { z } from 'zod';
import { inOurWords } from '../environment.ts';
import table from './prices.json' with { type: 'json' };

const Price = z.strictObject({
  usd: z.number().min(0),
  /** What the price is for one of. */
  unit: z.enum(['second', 'minute', 'hour', 'month', 'operation']),
  region: z.string(),
  source: z.string(),
  /** When the source said so. */
  date: z.iso.date(),
});
export type Price = z.infer<typeof Price>;
export type PriceName = keyof typeof table;
export type Prices = Readonly<Record<PriceName, Price>>;

const names = z.enum(Object.keys(table) as [PriceName, ...PriceName[]]);

/** What everything costs, as its sources said on the dates given: the one place where a price stands. */
export const PRICES: Prices = z.record(names, Price).parse(table);

/**
 * The same with an operator's own prices in their place: the text of PRICES_FILE has entries of the same form, those that
 * differ.
 * @throws an error whose message says what is wrong with it
 */
export function withOwnPrices(text: string, prices: Prices = PRICES): Prices {
  let own: unknown;
  try {
    own = JSON.parse(text);
  } catch {
    throw new Error('must be JSON, such as core/costs/prices.json');
  }
  const result = z.partialRecord(names, Price).safeParse(own, { error: inOurWords });
  if (result.success) return { ...prices, ...result.data };
  const [issue] = result.error.issues;
  throw new Error(`${issue?.path.join('.') || 'the table'}: ${issue?.message}`);
}

const SECONDS = { second: 1, minute: 60, hour: 3_600, month: 30 * 24 * 3_600 } as const;

/** @throws {TypeError} for what is not paid by time */
export function usdPerSecond({ usd, unit }: Price): number {
  if (unit === 'operation') throw new TypeError('an operation has no duration');
  return usd / SECONDS[unit];
}

/** Of a Cloud Run instance with an L4, instance-based: while it exists, whatever it does. */
export function cloudRunUsdPerSecond(
  prices: Prices,
  { vcpu, memoryGib }: { vcpu: number; memoryGib: number },
): number {
  return (
    usdPerSecond(prices['cloud-run-l4']) +
    vcpu * usdPerSecond(prices['cloud-run-vcpu']) +
    memoryGib * usdPerSecond(prices['cloud-run-gib'])
  );
}
