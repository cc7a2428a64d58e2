import type { FakeCloudStorage, LoggedRequest } from './fake-cloud-storage.ts';
import type { Fault } from './faults.ts';

/** The controls of a fake that runs in another process. */
export interface RemoteControl {
  inject(fault: Fault): Promise<void>;
  clearFaults(): Promise<void>;
  setClockOffset(offsetMs: number): Promise<void>;
  requests(): Promise<LoggedRequest[]>;
  leftovers(): Promise<ReturnType<FakeCloudStorage['leftovers']>>;
}

export function controlFakeCloudStorage(url: string): RemoteControl {
  const ask = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    return (await fetch(`${url}/_fake/${path}`, init)).json();
  };
  return {
    inject: async (fault) => void (await ask('POST', 'faults', fault)),
    clearFaults: async () => void (await ask('DELETE', 'faults')),
    setClockOffset: async (offsetMs) => void (await ask('PUT', 'clock', { offsetMs })),
    requests: async () => (await ask('GET', 'requests')) as LoggedRequest[],
    leftovers: async () => (await ask('GET', 'leftovers')) as string[],
  };
}
