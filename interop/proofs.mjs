// The proofs of spec/proofs.md: their bytes, their JSON form, and what they prove.
import { isDeepStrictEqual } from 'node:util';
import { verify as verifySignature } from './bip340.mjs';
import {
  Amount, DecodeError, H, Time, U64, body, certificate, checkpoint, decode, event, hex, keyEvent, nameEvent, nameState, none,
  outputState, peerState, shares, snapshot, total, unhex, voteDigest,
} from './encoding.mjs';
import { consistent, extended, inTrie, included, forestNode, leafHash, path, prefix, triePath } from './trees.mjs';

// Refusal is a proof that does not hold: the kind and the step of spec/proofs.md, "Errors".
export class Refusal extends Error {
  constructor(kind, step, detail = '') {
    super(`${step}: ${kind} ${detail}`);
    this.kind = kind;
    this.step = step;
  }
}
const refuse = (kind, step, detail) => { throw new Refusal(kind, step, detail); };

// within puts the name of a part before the step of what is refused in it.
function within(part, f) {
  try {
    return f();
  } catch (e) {
    if (e instanceof Refusal) e.step = part + (e.step ? '.' + e.step : '');
    throw e;
  }
}

// nested reads a value behind its length, which it must fill.
const nested = (r, max, read) => decode(r.bytes(max), (r) => r.raw(read));

const past = (r) => r.maybe((r) => ({ checkpoint: r.raw(checkpoint), path: path(64)(r) }));

function step(r) {
  const s = { snapshot: null, past: null };
  if (r.bool()) {
    s.snapshot = nested(r, 8 + 2 + 40 * 1024, snapshot);
    s.past = past(r);
  }
  s.checkpoint = r.raw(checkpoint);
  s.certificate = certificate(r);
  return s;
}

const steps = (r) => r.list(r.fit(r.u16(), 16384, 363), step);
const bytesOf = (r, read) => { const from = r.at, value = read(r); return { value, bytes: r.b.subarray(from, r.at) }; };

// The trie's proof and the prefix are told as their bytes in JSON, so these are kept.
function tried(r, p) {
  const t = bytesOf(r, triePath), f = bytesOf(r, prefix);
  return { ...p, path: hex(t.bytes), prefix: hex(f.bytes), hidden: { trie: t.value, prefix: f.value } };
}
function show(p) { // takes what JSON does not have from among the fields
  const { hidden } = p;
  delete p.hidden;
  return Object.defineProperty(p, 'hidden', { value: hidden });
}

const readEvent = (r) => ({ checkpoint: r.hash(), body: hex(r.bytes(65536)), event: r.raw(event), index: r.u64(), path: path(64)(r), past: past(r) });
const readOutput = (r) => ({ checkpoint: r.hash(), position: r.u64(), state: r.raw(outputState), path: path(62)(r) });

const readers = {
  1: ['event', readEvent],
  2: ['output', readOutput],
  3: ['key', (r) => {
    const p = tried(r, { checkpoint: r.hash(), lock: r.hash(), log: r.raw((r) => ({ count: r.u64(), root: r.hash() })) });
    p.events = r.list(r.fit(r.u16(), 4096, 133), (r) => r.raw(keyEvent));
    return show(p);
  }],
  4: ['name', (r) => {
    const p = tried(r, { checkpoint: r.hash(), name: r.string(32), state: r.maybe((r) => nested(r, 106, nameState)) });
    p.events = r.list(r.fit(r.u16(), 4096, 180), (r) => r.raw(nameEvent));
    return show(p);
  }],
  5: ['peer', (r) => {
    const p = { checkpoint: r.hash(), peer: r.hash(), state: r.maybe((r) => nested(r, 228, peerState)) }, t = bytesOf(r, triePath);
    return show({ ...p, path: hex(t.bytes), hidden: { trie: t.value } });
  }],
  6: ['consistency', (r) => ({ old: r.hash(), new: r.hash(), path: path(64)(r), history: path(64)(r) })],
  7: ['advance', (r) => ({ chain: r.hash(), steps: steps(r) })],
  8: ['file', (r) => ({ chain: r.hash(), steps: steps(r), event: readEvent(r), outputs: r.list(r.fit(r.u16(), 256, 173), readOutput) })],
};

// read decodes any proof.
export function read(bytes) {
  try {
    return decode(bytes, (r) => {
      if (bytes.length > 16 << 20) r.fail('too long', 'proof');
      if (r.take(13).toString('latin1') !== 'charter proof') r.fail('unknown kind', 'magic');
      if (r.u8() !== 1) r.fail('unknown kind', 'version');
      const kind = readers[r.u8()] ?? r.fail('unknown kind', 'proof');
      const p = kind[1](r);
      Object.defineProperty(p, 'kind', { value: kind[0] });
      return p;
    });
  } catch (e) {
    if (e instanceof DecodeError) refuse('malformed', 'bytes', e.message);
    throw e;
  }
}

// json is the form for people of a decoded proof.
export function json(p) {
  const plain = (v) => {
    if (v instanceof Amount) return shares(v.v);
    if (v instanceof U64) return v.v <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(v.v) : v.v;
    if (Array.isArray(v)) return v.map(plain);
    if (v === null || typeof v !== 'object') return v;
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [x instanceof Time ? k + '_ms' : k, plain(x)]));
  };
  const out = { proof: p.kind, version: 1, ...plain(p) };
  if (p.kind === 'name') for (const e of out.events) delete e.record.kind; // it is no record of a transaction there
  return out;
}

export const sameJSON = (p, other) => isDeepStrictEqual(json(p), other);

export const idOf = (cp) => H('checkpoint', cp.raw);

const leads = (named, cp) => { if (named !== idOf(cp)) refuse('wrong checkpoint', 'checkpoint'); };
const about = (has, want) => { if (has !== want) refuse('wrong subject', 'subject'); };
const under = (ok, what) => { if (!ok) refuse('not under the root', what); };

function verifyPast({ checkpoint: old, path }, cp) {
  if (old.chain !== cp.chain) refuse('wrong chain', 'past');
  if (old.height.v >= cp.height.v) refuse('wrong height', 'past');
  under(included(leafHash(unhex(idOf(old))), old.history_size.v, cp.history_size.v, path) === cp.history_root, 'past');
}

function verifyEvent(p, cp) {
  leads(p.checkpoint, cp);
  if (p.past) verifyPast(p.past, cp);
  const has = p.past ? p.past.checkpoint : cp;
  under(included(leafHash(p.event.raw), p.index.v, has.events.v, p.path) === has.events_root, 'path');
  if (p.event.kind === 3) {
    if (p.body !== '') refuse('wrong transaction', 'body');
    return null;
  }
  if (H('transaction', cp.chain, p.body) !== p.event.transaction) refuse('wrong transaction', 'body');
  let tx;
  try {
    tx = decode(unhex(p.body), body);
  } catch (e) {
    refuse('malformed', 'body', e.message);
  }
  if (p.event.kind === 1 && p.event.outputs !== tx.outputs.length) refuse('wrong transaction', 'event');
  return tx;
}

function verifyOutput(p, cp, position) {
  leads(p.checkpoint, cp);
  about(p.position.v, position);
  under(included(H('output', p.state.raw), p.position.v, cp.outputs.v, p.path, forestNode) === cp.outputs_root, 'path');
  return p.state.spent_height.v;
}

const trie = (root, at, p, leaf) => under(inTrie(root, at, p.hidden.trie) === leaf, 'path');

// latest checks that events are the last of a log.
function latest(log, p) {
  const all = extended(p.hidden.prefix, p.events.map((v) => leafHash(v.raw)));
  under(all.size === log.count.v && all.root === log.root, 'events');
}

function verifyKey(p, cp, lock) {
  leads(p.checkpoint, cp);
  about(p.lock, lock);
  const empty = p.log.count.v === 0n;
  if (empty) under(p.log.root === none && p.hidden.prefix.size === 0n && p.events.length === 0, 'events');
  trie(cp.keys_root, H('key path', p.lock), p, empty ? none : H('key log', p.log.raw));
  if (empty) return;
  if (p.events.some((v) => v.output.lock !== lock)) refuse('wrong subject', 'events');
  latest(p.log, p);
}

function verifyName(p, cp, name) {
  leads(p.checkpoint, cp);
  about(p.name, name);
  if (p.state) about(p.state.name, name);
  else under(p.hidden.prefix.size === 0n && p.events.length === 0, 'events');
  trie(cp.names_root, H('name path', Buffer.from(name)), p, p.state ? H('name', p.state.raw) : none);
  if (!p.state) return;
  if (p.events.some((v) => v.record.name !== name)) refuse('wrong subject', 'events');
  latest(p.state.story, p);
}

function verifyPeer(p, cp, peer) {
  leads(p.checkpoint, cp);
  about(p.peer, peer);
  if (p.state) about(p.state.peer, peer);
  trie(cp.peers_root, H('peer path', peer), p, p.state ? H('peer', p.state.raw) : none);
}

function verifyConsistency(p, older, newer) {
  leads(p.new, newer);
  leads(p.old, older);
  verifyPast({ checkpoint: older, path: p.path }, newer);
  under(consistent(older.history_size.v, older.history_root, newer.history_size.v, newer.history_root, p.history), 'history');
}

// trust is what a verifier believes at first: a genesis.
export const trust = ({ chain, snapshot, params }) => ({
  chain, lag: BigInt(params.snapshot_lag), period: BigInt(params.snapshot_period), checkpoint: null, oldest: 0n, snapshots: [snapshot],
});

const rootOf = (chain, s) => H('snapshot', chain, s.raw);

function verifyCertificate(t, cp, cert, snap) {
  let last = -1, signed = 0n;
  for (const v of cert.votes) {
    if (v.index >= snap.members.length || v.index <= last) refuse('bad votes', 'certificate');
    last = v.index;
    signed += snap.members[v.index].shares.v;
  }
  if (3n * signed <= 2n * total(snap)) refuse('too few votes', 'certificate');
  const msg = unhex(voteDigest(t.chain, cp.height.v, idOf(cp)));
  for (const v of cert.votes) {
    if (!verifySignature(unhex(snap.members[v.index].peer), msg, unhex(v.signature))) refuse('bad signature', 'certificate');
  }
  return { signed, total: total(snap), height: snap.height.v };
}

function introduce(t, s) {
  const { snapshot: snap, past } = s, root = rootOf(t.chain, snap);
  if (t.snapshots.some((x) => rootOf(t.chain, x) === root)) return;
  let by = t.checkpoint;
  if (by && past) {
    verifyPast(past, by);
    by = past.checkpoint;
  }
  if (!by || root !== by.snapshot_root || snap.height.v !== (by.height.v / t.period) * t.period) refuse('wrong snapshot', 'snapshot');
  t.snapshots = [...t.snapshots, snap];
}

function take(t, s) {
  if (s.snapshot) introduce(t, s);
  const cp = s.checkpoint, h = cp.height.v, snap = t.snapshots.find((x) => rootOf(t.chain, x) === s.certificate.snapshot);
  if (!snap) refuse('unknown snapshot', 'certificate');
  if (snap.height.v < t.oldest) refuse('stale snapshot', 'certificate');
  if (snap.height.v > (h < t.lag ? 0n : ((h - t.lag) / t.period) * t.period)) refuse('snapshot too new', 'certificate');
  const strength = verifyCertificate(t, cp, s.certificate, snap);
  if (t.checkpoint && (cp.history_size.v <= t.checkpoint.history_size.v || cp.time.v < t.checkpoint.time.v)) refuse('wrong height', 'checkpoint');
  return { ...t, checkpoint: cp, oldest: snap.height.v, strength };
}

// advance follows steps from what is trusted, and gives what is then.
export function advance(from, steps) {
  let t = { ...from }, last = 0n;
  steps.forEach((s, i) => within(`advance[${i}]`, () => {
    const cp = s.checkpoint, now = t.checkpoint?.height.v ?? 0n;
    if (cp.chain !== t.chain) refuse('wrong chain', 'checkpoint');
    if (cp.height.v <= last) refuse('wrong height', 'checkpoint');
    last = cp.height.v;
    if (cp.height.v === now && idOf(cp) !== idOf(t.checkpoint)) refuse('conflicting checkpoint', 'checkpoint');
    if (cp.height.v > now) t = take(t, s);
  }));
  return t;
}

// verifyFile checks a file from what is trusted on, and says what it proves: with a document (its SHA-256), that it was notarised.
export function verifyFile(f, from, document) {
  if (f.chain !== from.chain) refuse('wrong chain', 'file');
  const t = advance(from, f.steps), cp = t.checkpoint;
  if (!cp || (f.steps.length && f.steps.at(-1).checkpoint.height.v < cp.height.v)) refuse('does not reach what is trusted', 'advance');
  const tx = within('event', () => verifyEvent(f.event, cp)), ev = f.event.event, applied = ev.kind !== 2;
  const made = applied && tx ? tx.outputs.map((o, i) => ({ ...o, position: ev.first.v + BigInt(i), spent: null })) : [];
  let last = -1n;
  f.outputs.forEach((p, i) => within(`outputs[${i}]`, () => {
    if (p.position.v <= last) refuse('wrong subject', '');
    last = p.position.v;
    const spent = verifyOutput(p, cp, p.position.v), at = made.findIndex((m) => m.position === p.position.v), m = made[at], o = p.state.output;
    if (!m || p.state.source !== ev.transaction || p.state.index !== at || o.value.v !== m.value.v || o.lock !== m.lock || o.host !== m.host) refuse('wrong subject', '');
    m.spent = spent;
  }));
  const documents = applied && tx ? tx.records.filter((r) => r.kind === 1).map((r) => r.document) : [];
  if (document && !documents.includes(document)) refuse('wrong document', 'event');
  return { event: ev, documents, made, checkpoint: cp, strength: t.strength };
}

// verify checks any other proof against the checkpoint that it leads to, about what was asked for.
export function verify(p, from, cp, subject, older) {
  switch (p.kind) {
    case 'file': return verifyFile(p, from, null);
    case 'advance': {
      if (p.chain !== from.chain) refuse('wrong chain', 'advance');
      return advance(from, p.steps);
    }
    case 'event': return verifyEvent(p, cp);
    case 'output': return verifyOutput(p, cp, p.position.v);
    case 'key': return verifyKey(p, cp, subject);
    case 'name': return verifyName(p, cp, subject);
    case 'peer': return verifyPeer(p, cp, subject);
    case 'consistency': return verifyConsistency(p, older, cp);
  }
  throw new Error(`no proof of kind ${p.kind}`);
}
