// Loaded before everything else with --import: this process believes the time to be CLOCK_SKEW_MS later than it is.
const skewMs = Number(process.env.CLOCK_SKEW_MS ?? 0);
const RealDate = Date;
const realNow = RealDate.now;

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(realNow() + skewMs);
    else super(...args);
  }

  static now() {
    return realNow() + skewMs;
  }
};
