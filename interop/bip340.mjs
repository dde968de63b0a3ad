// BIP-340 verification over secp256k1, from the text of the BIP. Not constant time: it sees public values only.
import { createHash } from 'node:crypto';

const p = 2n ** 256n - 2n ** 32n - 977n;
const n = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n, 1n];
const zero = [0n, 1n, 0n]; // Jacobian: x = X/Z², y = Y/Z³; Z = 0 is the point at infinity

export const sha256 = (...parts) => {
  const h = createHash('sha256');
  for (const x of parts) h.update(x);
  return h.digest();
};

// tagged is SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ parts).
export const tagged = (tag, ...parts) => {
  const t = sha256(Buffer.from(tag));
  return sha256(t, t, ...parts);
};

const mod = (a, m = p) => ((a % m) + m) % m;

const power = (base, e) => {
  let r = 1n;
  for (let b = base; e > 0n; e >>= 1n, b = (b * b) % p) if (e & 1n) r = (r * b) % p;
  return r;
};

const double = ([x, y, z]) => {
  if (z === 0n || y === 0n) return zero;
  const yy = (y * y) % p, s = (4n * x * yy) % p, m = (3n * x * x) % p; // a = 0
  const x3 = mod(m * m - 2n * s);
  return [x3, mod(m * (s - x3) - 8n * yy * yy), (2n * y * z) % p];
};

const add = (a, b) => {
  if (a[2] === 0n) return b;
  if (b[2] === 0n) return a;
  const za = (a[2] * a[2]) % p, zb = (b[2] * b[2]) % p;
  const u1 = (a[0] * zb) % p, u2 = (b[0] * za) % p;
  const s1 = (a[1] * zb * b[2]) % p, s2 = (b[1] * za * a[2]) % p;
  if (u1 === u2) return s1 === s2 ? double(a) : zero;
  const h = mod(u2 - u1), r = mod(s2 - s1), hh = (h * h) % p, hhh = (h * hh) % p, v = (u1 * hh) % p;
  const x = mod(r * r - hhh - 2n * v);
  return [x, mod(r * (v - x) - s1 * hhh), (h * a[2] * b[2]) % p];
};

// lift is the point with this x and even y, or null.
const lift = (x) => {
  if (x >= p) return null;
  const c = mod(x * x * x + 7n), y = power(c, (p + 1n) / 4n);
  if ((y * y) % p !== c) return null;
  return [x, y & 1n ? p - y : y, 1n];
};

const number = (bytes) => BigInt('0x' + Buffer.from(bytes).toString('hex'));

// verify reports whether sig (64 bytes) is the signature over msg by key (32 bytes).
export function verify(key, msg, sig) {
  const P = lift(number(key)), r = number(sig.subarray(0, 32)), s = number(sig.subarray(32));
  if (!P || r >= p || s >= n) return false;
  const e = mod(number(tagged('BIP0340/challenge', sig.subarray(0, 32), key, msg)), n);
  const f = mod(-e, n), both = add(G, P); // R = s·G − e·P, both at once
  let R = zero;
  for (let i = 255n; i >= 0n; i--) {
    R = double(R);
    const gs = (s >> i) & 1n, ps = (f >> i) & 1n;
    if (gs && ps) R = add(R, both);
    else if (gs) R = add(R, G);
    else if (ps) R = add(R, P);
  }
  if (R[2] === 0n) return false;
  const zi = power(R[2], p - 2n), zi2 = (zi * zi) % p;
  const x = (R[0] * zi2) % p, y = (R[1] * zi2 * zi) % p;
  return (y & 1n) === 0n && x === r;
}

// isKey reports whether 32 bytes are the x of a point.
export const isKey = (key) => lift(number(key)) !== null;
