import { expect, test } from '@jest/globals';
import { Transcript } from '../transcript.ts';
import { separateChannels } from './separate-channels.ts';

const said = (id: number, start: number, text: string, end = start + 1) => ({
  id,
  start,
  end,
  text,
  words: [{ word: text, start, end, score: 0.9 }],
});

/** Two channels of ten seconds; the second begins after a gap of 31. */
const JOINED: Transcript = {
  language: 'en',
  duration: 51,
  text: 'Hello? Bye. Hello! Good bye.',
  words_from: 'attention',
  segments: [said(0, 1, 'Hello?'), said(1, 8, 'Bye.'), said(2, 43.2, 'Hello!'), said(3, 50.3, 'Good bye.')],
  speakers: [],
};

test('gives each channel its speaker and puts what was said in the order of time', () => {
  const transcript = separateChannels(JOINED, [0, 41], 10);
  expect(transcript.segments.map(({ id, start, speaker, text }) => [id, start, speaker, text])).toEqual([
    [0, 1, 'SPEAKER_00', 'Hello?'],
    [1, 2.2, 'SPEAKER_01', 'Hello!'],
    [2, 8, 'SPEAKER_00', 'Bye.'],
    [3, 9.3, 'SPEAKER_01', 'Good bye.'],
  ]);
  expect(transcript).toMatchObject({
    duration: 10,
    text: 'Hello? Hello! Bye. Good bye.',
    speakers: ['SPEAKER_00', 'SPEAKER_01'],
  });
  expect(transcript.segments[1]?.words).toEqual([
    { word: 'Hello!', start: 2.2, end: 3.2, score: 0.9, speaker: 'SPEAKER_01' },
  ]);
  expect(Transcript.parse(transcript)).toEqual(transcript);
});

test('keeps what reaches into the gap within the recording', () => {
  const transcript = separateChannels({ ...JOINED, segments: [said(0, 9.5, 'Bye.', 10.4)] }, [0, 41], 10);
  expect(transcript.segments[0]).toMatchObject({ start: 9.5, end: 10, speaker: 'SPEAKER_00' });
});

test('gives what begins in the gap before a channel to that channel', () => {
  const transcript = separateChannels({ ...JOINED, segments: [said(0, 40.8, 'Hello!', 41.6)] }, [0, 41], 10);
  expect(transcript.segments[0]).toMatchObject({ start: 0, end: 0.6, speaker: 'SPEAKER_01' });
});

test('joins the texts of languages without spaces without them', () => {
  expect(separateChannels({ ...JOINED, language: 'ja' }, [0, 41], 10).text).toBe('Hello?Hello!Bye.Good bye.');
});
