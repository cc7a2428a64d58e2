import { type FakeCloudTasksOptions, startFakeCloudTasks } from './fake-cloud-tasks.ts';

// node main.ts '{"port": 8123, "database": "tasks.sqlite", …}': the fake as a process of its own. Says where it
// listens in one line of JSON. Killed and started again with the same file, it goes on with the tasks it had.

const options = JSON.parse(process.argv[2] ?? '{}') as FakeCloudTasksOptions;
const fake = await startFakeCloudTasks(options);
console.log(JSON.stringify({ url: fake.url, port: fake.port, certsUrl: fake.certsUrl }));

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void fake.close());
