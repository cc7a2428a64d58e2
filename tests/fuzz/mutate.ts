/** What breaks files on their way, and what somebody might do to them on purpose. */
export function mutate(original: Buffer, random: () => number): { bytes: Buffer; mutations: string[] } {
  let bytes = Buffer.from(original);
  const mutations: string[] = [];
  const count = 1 + Math.floor(random() ** 2 * 4);
  for (let i = 0; i < count; i++) {
    const name = MUTATION_NAMES[Math.floor(random() * MUTATION_NAMES.length)] as keyof typeof MUTATIONS;
    mutations.push(name);
    bytes = MUTATIONS[name](bytes, random);
  }
  return { bytes, mutations };
}

type Mutation = (bytes: Buffer, random: () => number) => Buffer<ArrayBuffer>;

const MUTATIONS = {
  'flip bits': (bytes, random) => {
    const flipped = Buffer.from(bytes);
    const count = 1 + Math.floor(random() ** 3 * 200);
    for (let i = 0; i < count; i++) {
      const at = position(bytes, random);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(random() * 8));
    }
    return flipped;
  },
  // Rarely at the start: of most kinds nothing can be read then.
  'cut off': (bytes, random) => {
    const at = position(bytes, random);
    return Buffer.from(random() < 0.2 ? bytes.subarray(at) : bytes.subarray(0, at));
  },
  'insert a block': (bytes, random) => {
    const at = position(bytes, random);
    const block = Buffer.from(Array.from({ length: length(random) }, () => random() * 256));
    return Buffer.concat([bytes.subarray(0, at), block, bytes.subarray(at)]);
  },
  'duplicate a block': (bytes, random) => {
    const at = position(bytes, random);
    return Buffer.concat([bytes.subarray(0, at + length(random)), bytes.subarray(at)]);
  },
  'remove a block': (bytes, random) => {
    const at = position(bytes, random);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length(random))]);
  },
  'zero a block': (bytes, random) => {
    const at = position(bytes, random);
    return Buffer.from(bytes).fill(0, at, Math.min(bytes.length, at + length(random)));
  },
  'write an extreme number': (bytes, random) => {
    const at = position(bytes, random);
    const number = EXTREMES[Math.floor(random() * EXTREMES.length)] as string;
    const written = Buffer.from(bytes);
    written.write(number, at, 'hex');
    return written;
  },
} satisfies Record<string, Mutation>;
const MUTATION_NAMES = Object.keys(MUTATIONS);

const EXTREMES = [
  '00000000',
  'ffffffff',
  '7fffffff',
  'ffffff7f',
  '80000000',
  '00000001',
  '01000000',
  'ffff',
  '00',
];

/** Half of them where headers are: damage to the sound itself is soon all alike. */
function position(bytes: Buffer, random: () => number): number {
  const range = random() < 0.5 ? Math.min(bytes.length, 1_000) : bytes.length;
  // The index of an mp4 is at its end.
  const at = Math.floor(random() * range);
  return random() < 0.2 ? Math.max(0, bytes.length - 1 - at) : at;
}

/** Mostly a few bytes, at times many. */
const length = (random: () => number): number => 1 + Math.floor(random() ** 4 * 20_000);
