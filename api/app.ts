import express, { type Express } from 'express';
import type { ApiDependencies } from './dependencies.ts';
import { authenticate } from './http/authenticate.ts';
import { identifyRequest } from './http/identify-request.ts';
import { notFound, problemHandler } from './http/problem-handler.ts';
import { secureAnswers } from './http/secure-answers.ts';
import { cancelTranscription } from './routes/cancel-transcription.ts';
import { createTranscription } from './routes/create-transcription.ts';
import { deleteTranscription } from './routes/delete-transcription.ts';
import { authenticateMedia, getMedia } from './routes/get-media.ts';
import { getTranscript } from './routes/get-transcript.ts';
import { getTranscription } from './routes/get-transcription.ts';
import { live, ready } from './routes/health.ts';
import { listTranscriptions } from './routes/list-transcriptions.ts';
import { retryTranscription } from './routes/retry-transcription.ts';
import { createDirectUpload } from './uploads/create-direct-upload.ts';
import { describeTus, serveTus } from './uploads/serve-tus.ts';
import { UploadLocks } from './uploads/upload-lock.ts';

/** Builds the public HTTP API; listening is up to the caller (see listen.ts). */
export function createApp(dependencies: ApiDependencies): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use(identifyRequest(dependencies.log), secureAnswers);

  app.get('/health/live', live);
  app.get('/health/ready', ready(dependencies));

  // Before the others: a signed link stands in for the key.
  app.get('/v1/transcriptions/:id/media', authenticateMedia(dependencies), getMedia(dependencies));

  app.options(['/v1/uploads', '/v1/uploads/:id'], describeTus(dependencies));

  app.use('/v1', authenticate(dependencies.keys, dependencies.publicUrl));
  app.post('/v1/transcriptions', express.json({ limit: '64kb' }), createTranscription(dependencies));
  app.get('/v1/transcriptions', listTranscriptions(dependencies));
  app.get('/v1/transcriptions/:id', getTranscription(dependencies));
  app.get('/v1/transcriptions/:id/transcript', getTranscript(dependencies));
  app.post('/v1/transcriptions/:id/cancel', cancelTranscription(dependencies));
  app.post('/v1/transcriptions/:id/retry', retryTranscription(dependencies));
  app.delete('/v1/transcriptions/:id', deleteTranscription(dependencies));

  const tus = serveTus(dependencies, new UploadLocks(dependencies.records, dependencies.log));
  app.post('/v1/uploads/direct', express.json({ limit: '16kb' }), createDirectUpload(dependencies));
  app.all('/v1/uploads', tus);
  app.all('/v1/uploads/:id', tus);

  app.use(notFound);
  app.use(problemHandler(dependencies.log));
  return app;
}
