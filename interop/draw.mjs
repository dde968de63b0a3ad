// The draw and the runs of spec/consensus.md.
import { H, u64, unhex } from './encoding.mjs';

const ln2 = 12786308645202655659n; // ⌊2⁶⁴ ln 2⌋

// e is −ln((x+1)/2⁶⁴) in units of 2⁻⁵⁸ ("Weight at a height").
export function e(x) {
  let y = x + 1n;
  if (y >> 64n) return 1n;
  const b = BigInt(y.toString(2).length - 1);
  y <<= 63n - b;
  let L = b << 58n;
  for (let digit = 1n << 57n; digit > 0n; digit >>= 1n) {
    y = (y * y) >> 64n; // of 126 or 127 bits: 62 digits behind the point
    if (y >> 63n) L += digit; // 2 or more: halved, it has 63
    else y <<= 1n;
  }
  const d = L === 0n ? 2n ** 64n - 1n : 2n ** 64n - L, v = (d * ln2) >> 64n;
  return v > 0n ? v : 1n;
}

// draws are e, rank and weight of members at a height.
export function draws(seed, height, members) {
  const S = members.reduce((n, m) => n + BigInt(m.shares), 0n);
  const all = members.map((m) => ({ peer: m.peer, shares: BigInt(m.shares), e: e(BigInt('0x' + H('weight', seed, u64(height), m.peer).slice(0, 16))) }));
  const order = all.toSorted((a, b) => {
    const l = a.e * b.shares, r = b.e * a.shares; // a.e/a.shares against b.e/b.shares
    return l < r ? -1 : l > r ? 1 : a.peer < b.peer ? -1 : 1;
  });
  return all.map((m) => {
    const w = (m.shares << 58n) / m.e;
    return { ...m, rank: order.indexOf(m), weight: w < S ? w : S };
  });
}

// mark is the least height above start at which an anchor closes the run.
export function mark(start, p) {
  for (let m = start + 1; ; m++) if ((((m + p.run_tail - p.snapshot_lag) % p.run_length) + p.run_length) % p.run_length === 0) return m;
}

export const snapshotOf = (start, p) => Math.max(0, Math.floor((start - p.snapshot_lag) / p.snapshot_period) * p.snapshot_period);
export const firstSeed = (chain) => H('seed', chain);
export const nextSeed = (seed, output) => H('seed', unhex(seed), unhex(output));
