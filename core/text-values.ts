import { z } from 'zod';

// Forms and queries send everything as text; JSON sends numbers and booleans as such. Both are read alike.

/** Decimal, as people write it: `Number` alone would also take `0x10`, `1e1` and spaces. */
const DECIMAL = /^-?(\d+\.?\d*|\.\d+)$/;

export const number = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (typeof value === 'string' && DECIMAL.test(value) ? Number(value) : value), schema);

export const list = <T extends z.ZodType>(schema: T) =>
  z.preprocess(
    (value) => (typeof value === 'string' ? value.split(',').map((item) => item.trim()) : value),
    schema,
  );

export const boolean = z.preprocess((value) => {
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  return value;
}, z.boolean('must be true or false'));
