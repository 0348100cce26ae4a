// Every wait in these tests is for something that must happen. The limit below is only there so that a
// server that never answers gives a failed test and not a hanging one; it is far above what a busy
// machine needs, and no test measures time.
export const WAIT_MS = 15_000;

/** Resolves as `promise` does, or rejects, naming `what` was awaited, after `limit_ms` milliseconds. */
export async function within(promise, what, limit_ms = WAIT_MS) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${limit_ms} ms in vain for ${what}`)), limit_ms);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
