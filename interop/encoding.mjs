// The encoding of spec/encoding.md: a strict reader, the types, their ids, the genesis. Hashes, keys and
// signatures are hexadecimal strings here; numbers that may pass 2^53 are in U64, Amount and Time.
import { tagged } from './bip340.mjs';

export class DecodeError extends Error {
  constructor(kind, what) {
    super(`${what}: ${kind}`);
    this.kind = kind;
  }
}

export class U64 { constructor(v) { this.v = v; } }
export class Amount extends U64 {}
export class Time extends U64 {}

const safe = 2n ** 53n - 1n; // greatest height and time
const supply = 2n ** 63n - 1n;
export const hex = (b) => Buffer.from(b).toString('hex');
export const unhex = (s) => Buffer.from(s, 'hex');
export const none = '0'.repeat(64);
export const H = (tag, ...parts) => hex(tagged('charter/' + tag, ...parts.map((x) => (typeof x === 'string' ? unhex(x) : x))));
export const u64 = (v) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(v)); return b; };

export class Reader {
  constructor(bytes) { this.b = bytes; this.at = 0; }
  get left() { return this.b.length - this.at; }
  fail(kind, what = '') { throw new DecodeError(kind, `${what} at byte ${this.at}`); }
  take(n) {
    if (n > this.left) this.fail('truncated');
    this.at += n;
    return this.b.subarray(this.at - n, this.at);
  }
  u8() { return this.take(1).readUInt8(); }
  u16() { return this.take(2).readUInt16BE(); }
  u32() { return this.take(4).readUInt32BE(); }
  big(max, Type = U64) {
    const v = this.take(8).readBigUInt64BE();
    if (v > max) this.fail('not canonical', 'number');
    return new Type(v);
  }
  u64() { return this.big(2n ** 64n - 1n); }
  height() { return this.big(safe); }
  time() { return this.big(safe, Time); }
  amount() { return this.big(supply, Amount); }
  bool() {
    const v = this.u8();
    if (v > 1) this.fail('not canonical', 'bool');
    return v === 1;
  }
  hash() { return hex(this.take(32)); }
  signature() { return hex(this.take(64)); }
  string(max) {
    const s = this.take(this.fit(this.u16(), max, 1));
    if (s.some((c) => c < 0x20 || c > 0x7e)) this.fail('not canonical', 'string');
    return s.toString('latin1');
  }
  bytes(max) { return this.take(this.fit(this.u32(), max, 1)); }
  // fit refuses a count above its bound, or of more elements of at least size bytes than can follow.
  fit(n, max, size) {
    if (n > max || n * size > this.left) this.fail('too long', 'count');
    return n;
  }
  list(n, read) { return Array.from({ length: n }, (_, i) => read(this, i)); }
  maybe(read) { return this.bool() ? read(this) : null; }
  // raw reads a value and keeps its bytes beside it.
  raw(read) {
    const from = this.at, value = read(this);
    Object.defineProperty(value, 'raw', { value: this.b.subarray(from, this.at) }); // not among its fields
    return value;
  }
  ascending(list, of) {
    for (let i = 1; i < list.length; i++) if (of(list[i - 1]) >= of(list[i])) this.fail('not canonical', 'order');
  }
}

// decode reads a whole value, and refuses what is left over.
export function decode(bytes, read) {
  const r = new Reader(bytes), v = read(r);
  if (r.left) r.fail('trailing bytes');
  return v;
}

export const output = (r) => ({ value: r.amount(), lock: r.hash(), host: r.hash() });
const input = (r) => ({ position: r.u64(), source: r.hash(), index: r.u32(), output: output(r) });
export const registerPeer = (r) => ({ kind: 2, peer: r.hash(), name: r.string(32), address: r.string(64), reward: r.hash(), signature: r.signature() });

function record(r) {
  switch (r.u8()) {
    case 1: return { kind: 1, document: r.hash() };
    case 2: return registerPeer(r);
    case 3: return evidence(r);
    case 4: return reinstate(r);
  }
  r.fail('unknown kind', 'record');
}

export function leaf(r) {
  const flags = r.u8(), l = { threshold: 0, keys: [], after: new Time(0n), older: new Time(0n), hash_lock: none };
  if (flags > 15) r.fail('unknown kind', 'leaf');
  if (flags & 1) {
    l.threshold = r.u8();
    const n = r.u8();
    if (n > 16) r.fail('too long', 'keys');
    l.keys = r.list(n, (r) => r.hash());
  }
  if (flags & 2) l.after = r.time();
  if (flags & 4) l.older = r.time();
  if (flags & 8) l.hash_lock = r.hash();
  const there = (l.threshold > 0 || l.keys.length > 0 ? 1 : 0) | (l.after.v ? 2 : 0) | (l.older.v ? 4 : 0) | (l.hash_lock !== none ? 8 : 0);
  if (flags === 0 || there !== flags || (flags & 1 && (l.threshold < 1 || l.threshold > l.keys.length))) r.fail('not canonical', 'leaf');
  r.ascending(l.keys, (k) => k);
  return l;
}

function reveal(r) {
  const v = { input: r.u16(), inner: r.hash(), leaf: leaf(r) };
  const n = r.u8();
  if (n > 32) r.fail('too long', 'path');
  v.path = r.list(n, (r) => r.hash());
  v.signers = r.u16();
  v.preimage = r.hash();
  return v;
}

// evidence is the blocks and votes that prove an offence: of two the encodings ascend.
export function evidence(r) {
  const offence = r.u8(), [blocks, votes] = { 1: [2, 0], 2: [0, 2], 3: [0, 1], 4: [1, 0] }[offence] ?? r.fail('unknown kind', 'offence');
  const part = (b) => Object.defineProperty(decode(b, block), 'raw', { value: b });
  const v = { kind: 3, offence, blocks: r.list(blocks, (r) => part(r.bytes(65536))), votes: r.list(votes, (r) => r.raw(signedVote)) };
  r.ascending([...v.blocks, ...v.votes], (x) => hex(x.raw));
  return v;
}

export function ballot(r) {
  const n = r.fit(r.u16(), 1536, 40);
  if (n === 0) r.fail('not canonical', 'ballot');
  const b = { outputs: r.list(n, (r) => ({ position: r.u64(), lock: r.hash() })) };
  r.ascending(b.outputs, (o) => o.position.v);
  b.signature = r.signature();
  return b;
}

function reinstate(r) {
  const v = { kind: 4, peer: r.hash(), offences: r.u16() }, n = r.fit(r.u16(), 256, 106);
  if (n === 0) r.fail('not canonical', 'ballots');
  v.ballots = r.list(n, ballot);
  r.ascending(v.ballots, (b) => b.outputs[0].position.v);
  return v;
}

const version = (r, is = 1) => { if (r.u8() !== is) r.fail('unknown kind', 'version'); };

export function body(r) {
  if (r.left > 65536) r.fail('too long', 'transaction');
  version(r);
  const t = { salt: hex(r.take(16)), valid_from: r.time(), valid_until: r.time() };
  t.inputs = r.list(r.fit(r.u16(), 256, 116), input);
  t.outputs = r.list(r.fit(r.u16(), 256, 72), output);
  const n = r.u8();
  if (n > 16) r.fail('too long', 'records');
  t.records = r.list(n, record);
  t.fee = r.amount();
  return t;
}

export function transaction(r) {
  if (r.left > 65536) r.fail('too long', 'transaction');
  const from = r.at, t = body(r), raw = r.b.subarray(from, r.at);
  let last = -1;
  t.reveals = r.list(r.fit(r.u16(), 256, 78), (r) => {
    const v = reveal(r);
    if (v.input <= last || v.input >= t.inputs.length) r.fail('not canonical', 'reveals');
    last = v.input;
    return v;
  });
  t.signature = r.signature();
  Object.defineProperty(t, 'body', { value: raw });
  return t;
}

const vote = (r) => {
  const v = { height: r.height(), checkpoint: r.hash(), signature: r.signature() };
  if (v.checkpoint === none) r.fail('not canonical', 'vote');
  return v;
};

export function block(r) {
  const from = r.at;
  version(r, 2);
  const b = { height: r.height(), author: r.hash(), previous: r.hash(), parent: r.hash() };
  if (b.height.v < 1n) r.fail('not canonical', 'height');
  b.merges = r.list(r.fit(r.u16(), 1024, 32), (r) => r.hash());
  r.ascending(b.merges, (h) => h);
  if (b.merges.includes(b.parent)) r.fail('not canonical', 'merges');
  b.past = r.hash();
  b.time = r.time();
  b.vrf = r.maybe((r) => hex(r.take(97)));
  if (b.vrf !== null && /^0*$/.test(b.vrf)) r.fail('not canonical', 'vrf');
  b.payload = r.hash();
  b.payload_bytes = r.u32();
  if (b.payload_bytes > 1 << 20) r.fail('too long', 'payload');
  if ((b.payload === none) !== (b.payload_bytes === 0)) r.fail('not canonical', 'payload');
  b.sample = r.hash();
  b.checkpoint = r.maybe(vote);
  const unsigned = r.b.subarray(from, r.at);
  b.signature = r.signature();
  Object.defineProperty(b, 'unsigned', { value: unsigned });
  return b;
}

export function payload(r) {
  if (r.left > 1 << 20) r.fail('too long', 'payload');
  return r.list(r.fit(r.u32(), 16384, 4), (r) => hex(r.bytes(65536)));
}

export function snapshot(r) {
  const s = { height: r.height() };
  s.members = r.list(r.fit(r.u16(), 1024, 40), (r) => ({ peer: r.hash(), shares: r.amount() }));
  r.ascending(s.members, (m) => m.peer);
  if (s.members.some((m) => m.shares.v === 0n) || total(s) > supply) r.fail('not canonical', 'members');
  return s;
}
export const total = (s) => s.members.reduce((n, m) => n + m.shares.v, 0n);

export const checkpoint = (r) => ({
  chain: r.hash(), height: r.height(), anchor: r.hash(), time: r.time(), events: r.u64(), events_root: r.hash(),
  history_size: r.u64(), history_root: r.hash(), outputs: r.u64(), outputs_root: r.hash(), keys_root: r.hash(),
  names_root: r.hash(), peers_root: r.hash(), snapshot_root: r.hash(), tally_root: r.hash(),
});

export function certificate(r) {
  const c = { snapshot: r.hash() };
  c.votes = r.list(r.fit(r.u16(), 1024, 66), (r) => ({ index: r.u16(), signature: r.signature() }));
  r.ascending(c.votes, (v) => v.index);
  return c;
}

export const reasons = ['', 'unknown output', 'output already spent', 'too early', 'too late', 'name taken', 'unknown host',
  'unknown peer', 'offence already settled', 'not proven', 'not marked for that offence', 'too few shares'];

export function event(r) {
  const v = { kind: r.u8(), transaction: r.hash(), block: r.hash(), height: r.height(), time: r.time(), first: r.u64(), outputs: r.u16(), reason: r.u8() };
  if (v.kind < 1 || v.kind > 3 || v.reason >= reasons.length) r.fail('unknown kind', 'event');
  if ((v.kind === 2) !== (v.reason !== 0) || (v.kind === 2 && (v.outputs !== 0 || v.first.v !== 0n))) r.fail('not canonical', 'event');
  return v;
}

export const keyEvent = (r) => ({ spent: r.bool(), position: r.u64(), transaction: r.hash(), index: r.u32(), output: output(r), height: r.height(), time: r.time() });
export const nameEvent = (r) => ({ transaction: r.hash(), height: r.height(), time: r.time(), record: registerPeer(r) });
export const outputState = (r) => ({ output: output(r), source: r.hash(), index: r.u32(), born_height: r.height(), born_time: r.time(), spent_height: r.height() });
export const peerState = (r) => ({ peer: r.hash(), name: r.string(32), address: r.string(64), reward: r.hash(), shares: r.amount(), fees: r.amount(), standing: standing(r) });
// standing is what a peer's weight hangs on besides its shares.
const standing = (r) => ({ weight: r.amount(), since: r.height(), present: r.u32(), witnesses: r.u16(), absent: r.height(), offences: r.u16(), offended: r.height(), cleared: r.height() });
export const logState = (r) => ({ count: r.u64(), root: r.hash() });
export const nameState = (r) => ({ name: r.string(32), peer: r.hash(), story: logState(r) });
export const signedVote = (r) => ({ peer: r.hash(), checkpoint_vote: vote(r) });

// types are those of vectors/types.json, with the id of a value (bytes b, decoded v) on a chain.
export const types = {
  transaction: [transaction, (chain, b, v) => H('transaction', chain, v.body)],
  'transaction body': [body, (chain, b) => H('transaction', chain, b)],
  block: [block, (chain, b, v) => H('block', chain, v.unsigned)],
  payload: [payload],
  snapshot: [snapshot, (chain, b) => H('snapshot', chain, b)],
  checkpoint: [checkpoint, (chain, b) => H('checkpoint', b)],
  certificate: [certificate],
  event: [event],
  'key event': [keyEvent],
  'name event': [nameEvent],
  'output state': [outputState, (chain, b) => H('output', b)],
  'peer state': [peerState, (chain, b) => H('peer', b)],
  'name state': [nameState, (chain, b) => H('name', b)],
  evidence: [evidence],
  ballot: [ballot],
  'signed vote': [signedVote, (chain, b, v) => voteDigest(chain, v.checkpoint_vote.height.v, v.checkpoint_vote.checkpoint)],
};

export const voteDigest = (chain, height, id) => H('checkpoint vote', chain, u64(height), id);

// units reads a decimal number of shares.
export function units(text) {
  const m = /^(\d+)(?:\.(\d{1,8}))?$/.exec(text);
  if (!m) throw new Error(`${text} is no amount`);
  const v = BigInt(m[1]) * 10n ** 8n + BigInt((m[2] ?? '').padEnd(8, '0'));
  if (v > supply) throw new Error(`${text} is above all supply`);
  return v;
}

export const shares = (v) => `${v / 10n ** 8n}.${String(v % 10n ** 8n).padStart(8, '0')}`.replace(/\.?0+$/, '');

const genesisFields = {
  '': ['network', 'time_ms', 'params', 'peers', 'outputs'],
  params: ['snapshot_lag', 'snapshot_period', 'run_length', 'run_tail', 'wait_leader_ms', 'wait_quorum_ms', 'wait_idle_ms', 'checkpoint_every', 'sample', 'max_forked', 'min_fee_per_byte', 'sample_every'],
  peers: ['peer', 'name', 'address', 'reward'],
  outputs: ['value', 'lock', 'host'],
};

// parseGenesis reads the text of a genesis file, and refuses fields that are unknown, missing or there twice.
export function parseGenesis(text) {
  const g = JSON.parse(text), names = [...text.matchAll(/"((?:[^"\\]|\\.)*)"(\s*:)?/g)].filter((m) => m[2]);
  let fields = 0;
  const want = (v, part) => {
    const missing = genesisFields[part].filter((k) => !Object.hasOwn(v, k)), unknown = Object.keys(v).filter((k) => !genesisFields[part].includes(k));
    if (missing.length || unknown.length) throw new Error(`genesis: ${part || 'file'}: fields missing: ${missing}; unknown: ${unknown}`);
    fields += genesisFields[part].length;
  };
  want(g, '');
  want(g.params, 'params');
  for (const x of g.peers) want(x, 'peers');
  for (const x of g.outputs) want(x, 'outputs');
  if (names.length !== fields) throw new Error('genesis: a field is there twice');
  return g;
}

// genesis is what a genesis stands for: its bytes, chain id and first snapshot.
export function genesis(g) {
  const parts = [], p = g.params;
  const u = (width, v) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(v)); parts.push(b.subarray(8 - width)); };
  const text = (s) => { u(2, s.length); parts.push(Buffer.from(s, 'latin1')); };
  u(1, 1);
  text(g.network);
  u(8, g.time_ms);
  for (const v of [p.snapshot_lag, p.snapshot_period, p.run_length, p.run_tail, p.wait_leader_ms, p.wait_quorum_ms, p.wait_idle_ms,
    p.checkpoint_every, p.sample, p.max_forked, units(p.min_fee_per_byte), p.sample_every]) u(8, v);
  u(2, g.peers.length);
  for (const x of g.peers) { parts.push(unhex(x.peer)); text(x.name); text(x.address); parts.push(unhex(x.reward)); }
  u(4, g.outputs.length);
  const sum = new Map();
  for (const o of g.outputs) {
    u(8, units(o.value));
    parts.push(unhex(o.lock), unhex(o.host));
    sum.set(o.host, (sum.get(o.host) ?? 0n) + units(o.value));
  }
  const bytes = Buffer.concat(parts);
  const members = g.peers.map((x) => x.peer).sort().filter((k) => sum.get(k) > 0n);
  const s = [u64(0), Buffer.from([members.length >> 8, members.length & 255]), ...members.flatMap((k) => [unhex(k), u64(sum.get(k))])];
  return { bytes, chain: H('genesis', bytes), snapshot: decode(Buffer.concat(s), (r) => r.raw(snapshot)), params: p };
}
