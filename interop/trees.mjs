// The trees of spec/ledger.md and spec/proofs.md: logs (RFC 6962), the forest and the tries. Hashes are hexadecimal.
import { sha256 } from './bip340.mjs';
import { H, hex, none, unhex } from './encoding.mjs';

export const leafHash = (entry) => hex(sha256(Buffer.from([0]), entry));
export const logNode = (l, r) => hex(sha256(Buffer.from([1]), unhex(l), unhex(r)));
export const forestNode = (l, r) => H('forest', l, r);
export const emptyLog = hex(sha256());

// root of leaves, by the definition of RFC 6962, section 2.1.
export function root(leaves, node = logNode, empty = emptyLog) {
  if (leaves.length < 2) return leaves[0] ?? empty;
  let k = 1;
  while (2 * k < leaves.length) k *= 2;
  return node(root(leaves.slice(0, k), node, empty), root(leaves.slice(k), node, empty));
}

const limit = 1n << 62n;

// included is the root that a path leads to from a leaf (RFC 9162, section 2.1.3.2), or null.
export function included(leaf, index, size, path, node = logNode) {
  if (index >= size || size > limit) return null;
  let fn = index, sn = size - 1n, h = leaf;
  for (const p of path) {
    if (sn === 0n) return null;
    if (fn & 1n || fn === sn) {
      h = node(p, h);
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n; }
    } else h = node(h, p);
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n ? h : null;
}

// consistent checks a path between two logs (RFC 9162, section 2.1.4.2); from the empty log it is empty.
export function consistent(oldSize, oldRoot, newSize, newRoot, path) {
  if (oldSize > newSize || newSize > limit) return false;
  if (oldSize === 0n) return path.length === 0 && oldRoot === emptyLog && (newSize > 0n || newRoot === oldRoot);
  if (oldSize === newSize) return path.length === 0 && oldRoot === newRoot;
  const way = (oldSize & (oldSize - 1n)) === 0n ? [oldRoot, ...path] : [...path];
  if (way.length === 0) return false;
  let fn = oldSize - 1n, sn = newSize - 1n;
  while (fn & 1n) { fn >>= 1n; sn >>= 1n; }
  let a = way[0], b = way[0];
  for (const c of way.slice(1)) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      a = logNode(c, a);
      b = logNode(c, b);
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n; }
    } else b = logNode(b, c);
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n && a === oldRoot && b === newRoot;
}

// path reads a log's or the forest's path, of at most max hashes.
export const path = (max) => (r) => {
  const n = r.u8();
  if (n > max) r.fail('too long', 'path');
  return r.list(n, (r) => r.hash());
};

// prefix reads a log reduced to its size and the roots of its complete subtrees.
export function prefix(r) {
  const size = r.u64().v;
  if (size > limit) r.fail('not canonical', 'size');
  let ones = 0;
  for (let s = size; s; s >>= 1n) ones += Number(s & 1n);
  return { size, peaks: r.list(ones, (r) => r.hash()) };
}

// extended is the root and size of a log with leaves behind a prefix.
export function extended({ size, peaks }, leaves) {
  const all = [...peaks];
  for (let h of leaves) {
    for (let s = size; s & 1n; s >>= 1n) h = logNode(all.pop(), h);
    all.push(h);
    size++;
  }
  return { size, root: all.length ? all.reduceRight((r, l) => logNode(l, r)) : emptyLog };
}

const bit = (path, i) => (path[i >> 3] >> (7 - (i & 7))) & 1;

// beginning is the first n bits of a path, zeros behind.
function beginning(path, n) {
  const b = Buffer.alloc(32);
  for (let i = 0; i < n; i++) if (bit(path, i)) b[i >> 3] |= 0x80 >> (i & 7);
  return b;
}

const trieLeaf = (path, value) => H('trie leaf', path, value);
const trieInner = (bits, prefix, left, right) => H('trie inner', Buffer.from([bits >> 8, bits & 255]), prefix, left, right);

function presentHash(r) {
  const h = r.hash();
  if (h === none) r.fail('not canonical', 'zero hash');
  return h;
}

// trieNode reads a node: a leaf, or an inner one.
export function trieNode(r) {
  switch (r.u8()) {
    case 1: return { bits: 256, prefix: Buffer.from(r.take(32)), value: presentHash(r) };
    case 2: {
      const bits = r.u8(), b = Buffer.alloc(32);
      r.take((bits + 7) >> 3).copy(b);
      if (!beginning(b, bits).equals(b)) r.fail('not canonical', 'prefix');
      return { bits, prefix: b, left: presentHash(r), right: presentHash(r) };
    }
  }
  return r.fail('unknown kind', 'node');
}

const trieHash = (n) => (n.bits === 256 ? trieLeaf(n.prefix, n.value) : trieInner(n.bits, n.prefix, n.left, n.right));

// triePath reads the proof of what a path has in a trie.
export function triePath(r) {
  const end = r.u8();
  const p = { end, siblings: r.list(r.fit(r.u16(), 256, 33), (r) => ({ depth: r.u8(), hash: presentHash(r) })), value: none, other: null };
  r.ascending(p.siblings, (s) => s.depth);
  if (end === 0) {
    if (p.siblings.length) r.fail('not canonical', 'siblings');
  } else if (end === 1) p.value = presentHash(r);
  else if (end === 2) p.other = trieNode(r);
  else r.fail('unknown kind', 'end');
  return p;
}

// inTrie is the value that a proof shows at a path, zero for none; or null if it does not hold.
export function inTrie(root, at, p) {
  const path = unhex(at), slot = p.siblings.length ? p.siblings.at(-1).depth + 1 : 0;
  let h = none;
  if (p.end === 1) h = trieLeaf(path, p.value);
  if (p.end === 2) {
    const o = p.other;
    const same = (n) => beginning(path, n).equals(beginning(o.prefix, n));
    if (o.bits < slot || !same(slot) || same(o.bits)) return null; // not in the slot, or the path may be below it
    h = trieHash(o);
  }
  for (const s of p.siblings.toReversed()) {
    const pair = bit(path, s.depth) ? [s.hash, h] : [h, s.hash];
    h = trieInner(s.depth, beginning(path, s.depth), ...pair);
  }
  return h === root ? p.value : null;
}
