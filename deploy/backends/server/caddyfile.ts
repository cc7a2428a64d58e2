import type { ServerMode } from './unit.ts';

/** For Caddy, which gets its certificate by itself. `host` is the name that the world knows the machine by. */
export function caddyfile({ host, port, mode }: { host: string; port: string; mode: ServerMode }): string {
  return mode === 'standalone' ? publicApi(host, port) : tasksOnly(host, port);
}

function publicApi(host: string, port: string): string {
  return `# Put \`import /etc/zeroscribe/zeroscribe.caddy\` into /etc/caddy/Caddyfile, then: systemctl reload caddy
${host} {
	# Uploads and answers are passed on as they come: nothing is gathered here, and nothing has a limit of its own.
	reverse_proxy 127.0.0.1:${port}
}
`;
}

function tasksOnly(host: string, port: string): string {
  return `# Put \`import /etc/zeroscribe/zeroscribe.caddy\` into /etc/caddy/Caddyfile, then: systemctl reload caddy
${host} {
	@task {
		method POST
		path /tasks
	}
	handle @task {
		request_body {
			max_size 1MB
		}
		# The answer comes when the work is done: up to half an hour later. Caddy waits for it.
		reverse_proxy 127.0.0.1:${port}
	}
	@health {
		method GET HEAD
		path /health/live /health/ready
	}
	handle @health {
		reverse_proxy 127.0.0.1:${port}
	}
	handle {
		respond 404
	}
}
`;
}
