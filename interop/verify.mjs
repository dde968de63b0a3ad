#!/usr/bin/env node
// A second verifier of Charter, written from the text of spec/ alone, in another language and without any library.
//
//   node interop/verify.mjs                                   checks spec/vectors, prints counts, exits 1 on a mismatch
//   node interop/verify.mjs FILE.charter genesis.json [DOC]   verifies a proof file, and that it notarises a document
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import * as bip340 from './bip340.mjs';
import * as draw from './draw.mjs';
import { DecodeError, H, Time, U64, decode, genesis, hex, leaf, none, checkpoint, parseGenesis, reasons, shares, types, u64, unhex, units } from './encoding.mjs';
import { Refusal, idOf, read, sameJSON, trust, verify, verifyFile } from './proofs.mjs';
import * as trees from './trees.mjs';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../spec/vectors/${name}.json`, import.meta.url)));
const counts = new Map();
let wrong = 0;

// check counts one thing, and says so if it does not hold. f throws or gives false then.
function check(what, name, f) {
  counts.set(what, (counts.get(what) ?? 0) + 1);
  let error;
  try {
    if (f() !== false) return;
  } catch (e) {
    error = e;
  }
  wrong++;
  console.error(`${what}: ${name}: ${error ? (error instanceof Refusal || error instanceof DecodeError ? error.message : error.stack) : 'does not agree'}`);
}

// refusal gives what f is refused by.
function refusal(f) {
  try {
    f();
  } catch (e) {
    if (e instanceof Refusal || e instanceof DecodeError) return e;
    throw e;
  }
  return { kind: 'accepted', step: '' };
}

// fields is a decoded value as vectors/types.json writes it.
function fields(v) {
  if (v instanceof Time) return Number(v.v);
  if (v instanceof U64) return String(v.v);
  if (Array.isArray(v)) return v.map(fields);
  if (v === null || typeof v !== 'object') return v;
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, fields(x)]));
}

// written is a value's fields with what its encoding leaves out, which the vectors write as empty or zero.
function written(type, v) {
  const f = fields(v), block = (b) => ({ ...b, vrf: b.vrf ?? '0'.repeat(194), checkpoint: b.checkpoint ?? { height: '0', checkpoint: none, signature: '0'.repeat(128) } });
  if (type === 'transaction body') Object.assign(f, { reveals: [], signature: '0'.repeat(128) });
  for (const r of f.records ?? []) if (r.kind === 3) r.blocks = r.blocks.map(block);
  if (type === 'evidence') f.blocks = f.blocks.map(block);
  return type === 'block' ? block(f) : f;
}

function checkTypes() {
  const v = vectors('types'), g = genesis(v.genesis.json);
  check('genesis', 'of types.json', () => hex(g.bytes) === v.genesis.encoding && g.chain === v.genesis.chain);
  for (const x of v.values) {
    const [readOne, id] = types[x.type], bytes = unhex(x.encoding);
    check('values', x.type, () => isDeepStrictEqual(written(x.type, decode(bytes, readOne)), x.fields));
    if (x.id) check('ids', x.type, () => id(g.chain, bytes, decode(bytes, readOne)) === x.id);
  }
  for (const x of v.refused) {
    check('encodings refused', `${x.type} ${x.encoding.slice(0, 80)}…`, () => {
      const { kind } = refusal(() => decode(unhex(x.encoding), types[x.type][0]));
      if (kind !== x.kind) throw new Error(`${kind}, want ${x.kind}`);
    });
  }
  for (const x of v.amounts) check('amounts', x.text, () => String(units(x.text)) === x.units && shares(BigInt(x.units)) === x.written);
  for (const x of v.not_amounts) check('amounts', x, () => { try { units(x); return false; } catch { return true; } });
  for (const x of v.tags) check('tags', x.tag, () => hex(bip340.tagged(x.tag, unhex(x.data))) === x.hash);
  let before = null;
  for (const x of v.leaves) {
    const pair = [before ?? x.hash, x.hash].sort();
    check('lock leaves', x.hash, () => isDeepStrictEqual(fields(decode(unhex(x.leaf), leaf)), x.fields) && H('leaf', x.leaf) === x.hash && H('branch', ...pair) === x.branch);
    before = x.hash;
  }
  for (const x of v.digests) {
    check('digests', x.digest, () => {
      const b = [];
      const number = (width, n) => b.push(u64(n).subarray(8 - width)), text = (s) => { number(2, s.length); b.push(Buffer.from(s, 'latin1')); };
      const { input: i, record: r } = x;
      number(8, i.position); b.push(unhex(i.source)); number(4, i.index); number(8, i.output.value); b.push(unhex(i.output.lock), unhex(i.output.host));
      b.push(unhex(r.peer)); text(r.name); text(r.address); b.push(unhex(r.reward));
      return H('register peer', g.chain, ...b) === x.digest && H('payout', g.chain, u64(x.height), r.peer) === x.payout;
    });
  }
}

function checkTrees() {
  const v = vectors('trees'), paths = (bytes) => decode(unhex(bytes), trees.path(64));
  for (const x of v.log) {
    const n = BigInt(x.entries.length);
    check('logs', `${n} leaves`, () => isDeepStrictEqual(x.entries.map((e) => trees.leafHash(unhex(e))), x.leaves) && trees.root(x.leaves) === x.root &&
      trees.extended({ size: 0n, peaks: [] }, x.leaves).root === x.root && trees.extended(decode(unhex(x.frontier), trees.prefix), []).root === x.root);
    x.inclusion.forEach((p, i) => {
      check('inclusions', `${i} in ${n}`, () => trees.included(x.leaves[i], BigInt(i), n, paths(p)) === x.root);
      check('inclusions spoilt', `${i} in ${n}`, () => trees.included(x.leaves[i], BigInt(i), n, [...paths(p), none]) !== x.root && trees.included(none, BigInt(i), n, paths(p)) !== x.root);
    });
    x.consistency.forEach((c, old) => {
      check('consistencies', `${old} in ${n}`, () => trees.consistent(BigInt(old), c.root, n, x.root, paths(c.proof)) && trees.root(x.leaves.slice(0, old)) === c.root);
      check('consistencies spoilt', `${old} in ${n}`, () => !trees.consistent(BigInt(old), c.root, n, x.root, [...paths(c.proof), none]) && !trees.consistent(BigInt(old), c.root, n, none, paths(c.proof)) || (old === 0 && n > 0n));
    });
  }
  for (const x of v.forest) {
    const n = BigInt(x.leaves.length);
    check('forests', `${n} leaves`, () => trees.root(x.leaves, trees.forestNode, none) === x.root);
    x.proofs.forEach((p, i) => check('forest proofs', `${i} in ${n}`, () => trees.included(x.leaves[i], BigInt(i), n, decode(unhex(p), trees.path(62)), trees.forestNode) === x.root));
  }
  for (const x of v.trie) {
    for (const y of [...x.entries, ...x.absent]) check('trie proofs', y.path, () => trees.inTrie(x.root, y.path, decode(unhex(y.proof), trees.triePath)) === y.value);
    for (const y of x.entries) check('trie proofs spoilt', y.path, () => trees.inTrie(none.slice(1) + '1', y.path, decode(unhex(y.proof), trees.triePath)) === null);
  }
}

// said are parts that the sentence of a file's verdict must have, if the verdict is right.
function said({ event: ev, documents, made, checkpoint: cp, strength }) {
  const parts = [ev.transaction, `height ${ev.height.v}, ${new Date(Number(ev.time.v)).toISOString()}`, `on chain ${cp.chain}`,
    `shares registered at height ${strength.height}`, `signed the checkpoint of height ${cp.height.v}`, ...documents];
  if (ev.kind === 2) parts.push(`rejected (${reasons[ev.reason]})`);
  if (!documents.length) for (const m of made) parts.push(`${shares(m.value.v)} shares for lock ${m.lock}`, ...(m.spent === null ? [] : [m.spent ? `(spent at height ${m.spent})` : `(unspent as of height ${cp.height.v})`]));
  return parts;
}

function checkProofs() {
  const v = vectors('proofs'), from = trust(genesis(v.genesis));
  const whole = (b) => decode(unhex(b), (r) => r.raw(checkpoint)), cp = whole(v.checkpoint);
  for (const x of v.proofs) {
    const bytes = unhex(x.bytes);
    check('proofs', x.name, () => {
      const p = read(bytes), got = verify(p, from, cp, x.subject, x.older && whole(x.older));
      if (p.kind === 'file') for (const part of said(got)) if (!x.proves.includes(part)) throw new Error(`${part} is not in: ${x.proves}`);
      if (p.kind === 'advance' && x.proves !== 'checkpoint ' + idOf(got.checkpoint)) return false;
      if (p.kind === 'output' && x.proves !== (got ? `spent at ${got}` : 'unspent')) return false;
      const of = p.kind === 'key' && (p.log.count.v === 0n ? 'no events' : p.events.length === Number(p.log.count.v) ? `all ${p.events.length} events` : `the latest of ${p.log.count.v} events`);
      if (of && x.proves !== of) throw new Error(`proves ${of}, said to prove ${x.proves}`);
    });
    check('JSON forms', x.name, () => sameJSON(read(bytes), x.json));
    check('proofs spoilt', x.name, () => { // one byte in each stretch of 97: none may be accepted
      for (let i = 0; i < bytes.length; i += 97) {
        const b = Buffer.from(bytes);
        b[i] ^= 1 << (i % 8);
        if (refusal(() => verify(read(b), from, cp, x.subject, x.older && whole(x.older))).kind === 'accepted') throw new Error(`accepted with byte ${i} changed`);
      }
    });
  }
  for (const x of v.refused) {
    check('files refused', x.name, () => {
      const e = refusal(() => verifyFile(read(unhex(x.bytes)), from, x.document));
      if (e.kind !== x.kind || e.step !== x.step) throw new Error(`${e.kind} at ${e.step}, want ${x.kind} at ${x.step}`);
    });
  }
}

function checkSignatures() {
  for (const x of vectors('sig').signatures) {
    check('signatures', x.comment, () => bip340.verify(unhex(x.key), unhex(x.message), unhex(x.signature)) === (x.comment === 'valid'));
  }
}

function checkDraw() {
  const v = vectors('draw');
  for (const x of v.logarithms) check('logarithms', x.x, () => String(draw.e(BigInt(x.x))) === x.e);
  for (const x of v.draws) {
    check('draws', `height ${x.height}`, () => draw.draws(x.seed, x.height, x.members).every((d, i) => {
      const m = x.members[i];
      return String(d.e) === m.e && d.rank === m.rank && String(d.weight) === m.weight;
    }));
  }
  for (const p of v.runs) {
    p.runs.forEach((r, i) => check('runs', `start ${r.start}`, () => {
      const before = p.runs[i - 1];
      return draw.mark(r.start, p) === r.mark && draw.snapshotOf(r.start, p) === r.snapshot && r.closer >= r.mark &&
        (before ? r.start === before.closer + p.run_tail && r.seed === draw.nextSeed(before.seed, before.vrf_output) : r.start === 1 && r.seed === draw.firstSeed(v.order.chain));
    }));
  }
  for (const b of v.order.blocks) {
    const [readOne, id] = types.block, bytes = unhex(b.encoded);
    check('ids', `block ${b.name}`, () => id(v.order.chain, bytes, decode(bytes, readOne)) === b.id);
  }
}

// accused checks evidence by itself: signatures, and that a fork is one.
function accused(chain, r, { comment }) {
  const [, blockID] = types.block, [, digest] = types['signed vote'];
  const ids = r.blocks.map((b) => blockID(chain, null, b));
  check('evidence', comment, () => r.blocks.every((b, i) => bip340.verify(unhex(b.author), unhex(ids[i]), unhex(b.signature))) &&
    r.votes.every((v) => bip340.verify(unhex(v.peer), unhex(digest(chain, null, v)), unhex(v.checkpoint_vote.signature))) &&
    (r.offence !== 1 || (r.blocks[0].author === r.blocks[1].author && r.blocks[0].previous === r.blocks[1].previous && ids[0] !== ids[1])));
}

// sampled is the position and the sample of a block that draws on a checkpoint.
function sampled(chain, base, cp, { height, author, output_state: state }) {
  const draw = BigInt('0x' + H('sample draw', base, u64(height), author).slice(0, 16));
  const born = Buffer.concat([unhex(state).subarray(0, 124), u64(0)]);
  return [(draw * cp.outputs.v) >> 64n, H('sample', chain, author, u64(height), born)];
}

// checkLedger looks at what hangs together without applying anything: ids, the events under each checkpoint, the history.
function checkLedger() {
  const v = vectors('ledger'), { chain } = genesis(v.genesis), ids = [];
  check('genesis', 'of ledger.json', () => chain === v.chain);
  const sealed = ({ encoding, id }, events) => {
    const cp = decode(unhex(encoding), checkpoint), log = (entries) => trees.root(entries.map((x) => trees.leafHash(unhex(x))));
    check('ids', `checkpoint ${cp.height.v}`, () => types.checkpoint[1](chain, unhex(encoding)) === id && cp.chain === chain);
    check('roots', `events of checkpoint ${cp.height.v}`, () => cp.events.v === BigInt(events.length) && cp.events_root === log(events));
    check('roots', `history of checkpoint ${cp.height.v}`, () => cp.history_size.v === BigInt(ids.length) && cp.history_root === log(ids));
    ids.push(id);
  };
  sealed(v.checkpoint_0, []);
  for (const b of v.batches) {
    for (const x of b.transactions) check('ids', x.comment, () => types.transaction[1](chain, null, decode(unhex(x.encoding), types.transaction[0])) === x.id);
    for (const x of b.transactions) for (const r of decode(unhex(x.encoding), types.transaction[0]).records) if (r.kind === 3) accused(chain, r, x);
    for (const x of b.peers) check('values', 'peer state', () => decode(unhex(x), types['peer state'][0]).standing.present >= 0);
    for (const x of b.events) check('values', 'event', () => decode(unhex(x), types.event[0]).kind > 0);
    sealed(b.checkpoint, b.events);
  }
  for (const x of v.samples) {
    const [position, sample] = sampled(chain, types.checkpoint[1](chain, unhex(x.checkpoint)), decode(unhex(x.checkpoint), checkpoint), x);
    check('samples', `height ${x.height}`, () => position === BigInt(x.position) && sample === x.sample);
  }
}

function checkVectors() {
  for (const f of [checkTypes, checkTrees, checkSignatures, checkProofs, checkLedger, checkDraw]) f();
  for (const [what, n] of counts) console.log(`${String(n).padStart(5)} ${what}`);
  console.log(wrong ? `${wrong} do not agree` : 'all agree');
  return wrong ? 1 : 0;
}

// checkFile verifies a proof file, and says what it proves.
function checkFile(file, genesisFile, document) {
  try {
    const g = genesis(parseGenesis(readFileSync(genesisFile, 'utf8')));
    const p = read(readFileSync(file));
    if (p.kind !== 'file') throw new Refusal('malformed', 'bytes', `a proof of kind ${p.kind}`);
    const asked = document && hex(bip340.sha256(readFileSync(document)));
    const { event: ev, documents, made, checkpoint: cp, strength } = verifyFile(p, trust(g), asked);
    const fate = { 1: 'applied', 2: `rejected: ${reasons[ev.reason]}`, 3: 'payout' }[ev.kind];
    console.log(JSON.stringify({
      chain: g.chain, transaction: ev.transaction, fate, height: Number(ev.height.v), time: new Date(Number(ev.time.v)).toISOString(), documents, document: asked ?? null,
      outputs: made.map((m) => ({ position: Number(m.position), value: shares(m.value.v), lock: m.lock, spent_height: m.spent === null ? null : Number(m.spent) })),
      checkpoint: idOf(cp), checkpoint_height: Number(cp.height.v), signed: shares(strength.signed), total: shares(strength.total),
    }, null, 2));
    return 0;
  } catch (e) {
    console.error(`${file}: ${e.message}`);
    return 1;
  }
}

const args = process.argv.slice(2);
if (args.length === 1 || args.length > 3) {
  console.error('usage: node verify.mjs [FILE.charter genesis.json [document]]');
  process.exitCode = 2;
} else process.exitCode = args.length ? checkFile(...args) : checkVectors();
