/**
 * The arithmetic that this project was started from, as it was done then, and what each figure leaves out. With the
 * numbers of then (a 71-minute video is 7 minutes of GPU), not with those that are measured now.
 */
export interface OriginalFigure {
  what: string;
  /** As it was said. */
  said: string;
  usd: number;
  formula: string;
  /** The same with what it left out, where that is a number. */
  withAllUsd: number | null;
  leftOut: string;
}

const GPU_MINUTES = 7;
const VIDEO_MINUTES = 71;

export interface OriginalInputs {
  /** Of a Cloud Run instance with an L4 and what it needs besides, as it is billed. */
  cloudRunUsdPerSecond: number;
  coldStartSeconds: number;
  idleTailSeconds: number;
  /** Of a Vertex machine with an L4. */
  vertexUsdPerHour: number;
}

export function originalFigures(now: OriginalInputs): OriginalFigure[] {
  const work = GPU_MINUTES * 60;
  const cloudRun = (0.4 / 60) * GPU_MINUTES;
  const vertex = (0.6 / 60) * GPU_MINUTES;
  const price = vertex / (1 - 0.995);
  const alone = (now.coldStartSeconds + work + now.idleTailSeconds) * now.cloudRunUsdPerSecond;
  const month = 30 * 24;
  return [
    {
      what: `A ${VIDEO_MINUTES}-minute video on Cloud Run`,
      said: '$0.047',
      usd: cloudRun,
      formula: `${GPU_MINUTES} min × $0.40 an hour`,
      withAllUsd: alone,
      leftOut:
        'An instance with an L4 costs what its CPU and memory cost too, starts before it works, and is billed for up to ten minutes after it. Lone videos pay all of that, videos that follow each other nearly none.',
    },
    {
      what: `The same on Vertex AI`,
      said: '$0.07',
      usd: vertex,
      formula: `${GPU_MINUTES} min × $0.60 an hour`,
      withAllUsd: ((now.coldStartSeconds + work) / 3_600) * now.vertexUsdPerHour,
      leftOut:
        'The machine is billed while it starts and loads; minutes of waiting for it are not billed, but waited for.',
    },
    {
      what: 'The margin on it',
      said: '99.5 %',
      usd: price,
      formula: `1 − $0.07 ÷ $${price.toFixed(0)}: so a video was sold for $${price.toFixed(0)}`,
      withAllUsd: null,
      leftOut:
        'A margin says nothing without the price. At a dollar an hour of audio the same costs leave 94 %. Storage, traffic, failed jobs and people are no part of it.',
    },
    {
      what: 'A service that is always there, a month',
      said: 'about $300',
      usd: 0.4 * month,
      formula: `0.40 an hour × ${month} h`,
      withAllUsd: now.cloudRunUsdPerSecond * 3_600 * month,
      leftOut:
        'Only the GPU, at a price it no longer has; the instance is billed with its CPU and memory, idle or not.',
    },
    {
      what: 'Videos a month from which a server at $160 pays',
      said: 'about 2,700, 90 a day',
      usd: 160,
      formula: `$160 ÷ $0.06, between the two prices above: ${Math.round(160 / ((cloudRun + vertex) / 2)).toLocaleString('en-US')}`,
      withAllUsd: null,
      leftOut:
        'With idle tails the break-even comes far earlier for videos that come one by one. One server has one GPU: in a rush its queue grows, and it has to be looked after. Servers with a GPU cost more than $160 now.',
    },
  ];
}
