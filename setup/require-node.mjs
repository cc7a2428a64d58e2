/** Ends the process where set-up's own code could not run. Node 24 itself is installed by set-up. */
export function requireNode() {
  if (Number.parseInt(process.versions.node, 10) >= 18) return;
  console.error(
    `Zeroscribe needs Node 18 or newer to start, and this is ${process.version}. Install a newer one and run the command again.`,
  );
  process.exit(1);
}
