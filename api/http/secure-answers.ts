import type { RequestHandler } from 'express';

/** Answers belong to one key, are no pages, and are not guessed to be anything but what they say. */
export const secureAnswers: RequestHandler = (_req, res, next) => {
  res.set({
    'Cache-Control': 'private, no-cache',
    'Content-Security-Policy': "default-src 'none'; sandbox",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  });
  next();
};
