import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import { readInstallation } from '../../core/installation.ts';
import { type Problem, problemSlug } from '../../core/problem.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { Transcript } from '../../core/transcript.ts';
import { ffmpeg } from '../support/media.ts';
import { type Service, startService } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';

const installation = readInstallation();
let folder: string;
let service: Service;
let client: Client;

/** The first half of the sample, the second one from half a second on, a call that has them left and right, and a film. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-tracks-'));
  const halves = [
    '[0]atrim=6:17.7,asetpts=PTS-STARTPTS,apad=whole_dur=12,asplit=3[left][l][first]',
    '[0]atrim=17.7:29.2,asetpts=PTS-STARTPTS,adelay=500,apad=whole_dur=12,asplit=3[right][r][second]',
    '[l][r]join=inputs=2:channel_layout=stereo[call]',
  ];
  await ffmpeg(installation.ffmpeg, [
    ...['-i', sampleRecording(installation.python), '-filter_complex', halves.join(';')],
    ...['-map', '[left]', join(folder, 'left.wav'), '-map', '[right]', join(folder, 'right.wav')],
    ...['-map', '[call]', join(folder, 'call.wav')],
    ...['-map', '[first]', '-map', '[second]', '-c:a', 'flac', join(folder, 'film.mkv')],
  ]);
  service = await startService(join(folder, 'data'), { WHISPER_MODEL: installation.packaged_model.name });
  client = new Client(service.url);
});

afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await rm(folder, { recursive: true });
});

const transcripts = new Map<string, Promise<Transcript>>();

/** Once for all that ask for the same. */
function transcribe(name: string, options: Record<string, string> = {}): Promise<Transcript> {
  const key = JSON.stringify([name, options]);
  const transcript = transcripts.get(key) ?? transcribeNow(name, options);
  transcripts.set(key, transcript);
  return transcript;
}

async function transcribeNow(name: string, options: Record<string, string>): Promise<Transcript> {
  const { id } = await submit(client, join(folder, name), { language: 'en', ...options });
  expect(await waitUntilSettled(client, id)).toMatchObject({ status: 'completed', warnings: [] });
  return Transcript.parse(JSON.parse(await client.transcript(id, 'json')));
}

const wordsOf = (segments: Transcript['segments']) => segments.flatMap(({ words = [] }) => words);

test('each channel of a call is a speaker, who says what the channel alone says', async () => {
  const call = await transcribe('call.wav', { channels: 'separate' });
  expect(call.duration).toBe(12);
  expect([...call.speakers].sort()).toEqual(['SPEAKER_00', 'SPEAKER_01']);
  for (const [channel, name] of ['left.wav', 'right.wav'].entries()) {
    const alone = await transcribe(name);
    const said = call.segments.filter(({ speaker }) => speaker === `SPEAKER_0${channel}`);
    expect(said.map(({ text }) => text)).toEqual(alone.segments.map(({ text }) => text));
    const words = wordsOf(said);
    const wordsAlone = wordsOf(alone.segments);
    expect(words.map(({ word, speaker }) => [word, speaker])).toEqual(
      wordsAlone.map(({ word }) => [word, `SPEAKER_0${channel}`]),
    );
    // The speech detector looks at a channel from where it lies among the others: a hundredth of a second here or there.
    const shifts = words.map(({ start }, i) => Math.abs(start - (wordsAlone[i]?.start ?? Number.NaN)));
    expect(Math.max(...shifts)).toBeLessThan(0.1);
  }
}, 300_000);

test('what was said at the same time stands in the order of time', async () => {
  const { segments, text } = await transcribe('call.wav', { channels: 'separate' });
  const starts = segments.map(({ start }) => start);
  expect(starts).toEqual([...starts].sort((one, other) => one - other));
  expect(text).toBe(segments.map((segment) => segment.text).join(' '));
  const turns = segments.filter(({ speaker }, i) => speaker !== segments[i - 1]?.speaker);
  expect(turns.length).toBeGreaterThan(4);
}, 300_000);

test('mixed, the call has no speakers', async () => {
  expect((await transcribe('call.wav')).speakers).toEqual([]);
}, 300_000);

test('the one channel of a mono file is the one speaker', async () => {
  const { speakers, ...separate } = await transcribe('left.wav', { channels: 'separate' });
  expect(speakers).toEqual(['SPEAKER_00']);
  expect(separate.text).toBe((await transcribe('left.wav')).text);
}, 300_000);

test.each([
  ['left.wav', {}],
  ['right.wav', { audio_track: '1' }],
])(
  'a film with two tracks gives the words of %s with the options %j',
  async (name, options) => {
    expect((await transcribe('film.mkv', options)).segments).toEqual((await transcribe(name)).segments);
  },
  300_000,
);

test('a track that is not there is a problem of the option', async () => {
  const { id } = await submit(client, join(folder, 'film.mkv'), { audio_track: '2' });
  const { status, problem } = await waitUntilSettled(client, id);
  expect([status, problemSlug(problem as Problem), problem?.field]).toEqual([
    'failed',
    'invalid-option',
    'audio_track',
  ]);
  expect(problem?.detail).toContain('has 2');
});
