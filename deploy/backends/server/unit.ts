/** What of the unit differs between machines. */
export interface UnitOptions {
  /** Where the repository lies, set up. */
  folder: string;
  node: string;
  mode: ServerMode;
  device: 'cpu' | 'cuda';
  /** Whether a credentials file is kept for it. */
  hasCredentials: boolean;
  /** Such as `24G`; without it, what the machine has. */
  memoryMax?: string | undefined;
  systemdVersion: number;
}

/** `standalone`: everything on this machine. `cloud-tasks`: the transcriber alone, to which Cloud Tasks brings jobs. */
export type ServerMode = 'standalone' | 'cloud-tasks';

export const UNIT_NAME = 'zeroscribe.service';
export const USER = 'zeroscribe';
export const CONFIG_FOLDER = '/etc/zeroscribe';
export const ENVIRONMENT_FILE = `${CONFIG_FOLDER}/zeroscribe.env`;
export const CREDENTIALS_FILE = `${CONFIG_FOLDER}/google-credentials.json`;
export const STATE_FOLDER = '/var/lib/zeroscribe';
const CACHE_FOLDER = '/var/cache/zeroscribe';
const CREDENTIAL = 'google-credentials.json';

const PROGRAM: Record<ServerMode, string> = {
  // As `npm start`, without npm in between: systemd's signals go to the one process that knows what to do with them.
  standalone: 'cli/main.ts serve',
  'cloud-tasks': 'gpu-service/main.ts',
};

const GPU_UNIT = `After=nvidia-persistenced.service`;
const GPU_SERVICE = `
# The nodes of the GPU are made on first use, by a program that needs root: here it still has it.
ExecStartPre=-+/usr/bin/nvidia-modprobe -u -c 0
# No devices but the GPU's and the likes of /dev/null. The drivers are loaded at boot (modules-load.d), since the rule
# is made of what /proc/devices lists when the service starts. \`m\` is for the program above: the service itself has no
# capability to make nodes.
DevicePolicy=closed
DeviceAllow=char-nvidia* rwm`;
const NO_GPU_SERVICE = `
PrivateDevices=yes`;

/** The newest that has to be there: `%d`, the folder of credentials. */
export const OLDEST_SYSTEMD = 250;
/** Understands that the pause between restarts grows. */
const GROWING_PAUSES_SINCE = 254;

export function systemdUnit(options: UnitOptions): string {
  const { folder, node, mode, device, hasCredentials, memoryMax, systemdVersion } = options;
  return `# Made by deploy/backends/server. Changes of your own belong into a drop-in: systemctl edit ${UNIT_NAME}
[Unit]
Description=Zeroscribe (${mode})
Documentation=file:${folder}/deploy/backends/server/README.md
Wants=network-online.target
After=network-online.target
${device === 'cuda' ? `${GPU_UNIT}\n` : ''}# Whatever ends it, it comes back: jobs wait for it.
StartLimitIntervalSec=0

[Service]
Type=exec
User=${USER}
Group=${USER}
WorkingDirectory=${folder}
# Read by systemd, as root: the service itself cannot open it, nor can other users.
EnvironmentFile=${ENVIRONMENT_FILE}
Environment=NODE_ENV=production
# A home that is there, caches that survive a restart, and room for audio that is no memory (/tmp may be).
Environment=HOME=${STATE_FOLDER} XDG_CACHE_HOME=${CACHE_FOLDER} NODE_COMPILE_CACHE=${CACHE_FOLDER}/node TMPDIR=/var/tmp
${hasCredentials ? `LoadCredential=${CREDENTIAL}:${CREDENTIALS_FILE}\nEnvironment=GOOGLE_APPLICATION_CREDENTIALS=%d/${CREDENTIAL}\n` : ''}ExecStart=${node} --disable-warning=ExperimentalWarning ${folder}/${PROGRAM[mode]}
Restart=always
RestartSec=5
${systemdVersion >= GROWING_PAUSES_SINCE ? 'RestartSteps=6\nRestartMaxDelaySec=120\n' : ''}
# SIGTERM goes to the service alone, which gives its jobs back and ends its sidecar, within nine seconds. What is left
# after that, in whatever process group, is killed.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=15
# A sidecar that runs out of memory is started again by the service; its job goes on from the last checkpoint.
OOMPolicy=continue
${memoryMax === undefined ? '' : `MemoryMax=${memoryMax}\n`}LimitNOFILE=65536

StateDirectory=zeroscribe
StateDirectoryMode=0700
CacheDirectory=zeroscribe
CacheDirectoryMode=0700
UMask=0077
${device === 'cuda' ? GPU_SERVICE.trimStart() : NO_GPU_SERVICE.trimStart()}

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
# What is refused, and not what is allowed: CUDA's driver calls more than the usual set. Memory that is written and then
# run (MemoryDenyWriteExecute) is how Node works, so it cannot be refused.
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`;
}

/** What an installed unit was made with, so that an upgrade need not be told again. */
export function readUnit(text: string | undefined): { device?: 'cpu' | 'cuda'; memoryMax?: string } {
  if (text === undefined) return {};
  const memoryMax = /^MemoryMax=(.+)$/m.exec(text)?.[1];
  return {
    device: /^PrivateDevices=yes$/m.test(text) ? 'cpu' : 'cuda',
    ...(memoryMax !== undefined && { memoryMax }),
  };
}

/** For systemd-modules-load: both drivers, and with them what /proc/devices lists, before any service starts. */
export const MODULES_FILE = '/etc/modules-load.d/zeroscribe.conf';
export const MODULES = '# The GPU of Zeroscribe.\nnvidia\nnvidia-uvm\n';
