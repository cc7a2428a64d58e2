/** Resolves when the text is out. A reader that closed the pipe (`| head`) has what it wanted: no error. */
export async function print(text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error && (error as NodeJS.ErrnoException).code !== 'EPIPE') reject(error);
      else resolve();
    });
  });
}

/** Without a listener, Node ends the process with a stack before `print` is told. */
process.stdout.on('error', () => {});
