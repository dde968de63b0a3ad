package main

import "slices"

// suites by name.
var suites = map[string][]suite{
	"types":      {{"./types", ".", ""}},
	"tlog":       {{"./tlog", ".", ""}},
	"forest":     {{"./forest", ".", ""}},
	"trie":       {{"./trie", ".", ""}},
	"ledger":     {{"./ledger", ".", ""}},
	"trust":      {{"./proof", "^(TestRefusals|TestSubjects|TestPin|TestTwoThirdsIsExact|TestAdvance.*)$", ""}},
	"proof":      {{"./proof", ".", ""}},
	"pool":       {{"./pool", ".", ""}},
	"transcript": {{"./consensus", "^TestDrawn$", ""}},
	"consensus":  {{"./consensus", ".", ""}},
	"signing":    {{"./store", "^(TestSigning|TestRefusals|TestForeignSignature|TestBlocks|TestPool|TestBatchIsDiscarded|TestStateAgreesWithTwin)$", ""}},
	"store":      {{"./store", ".", ""}},
	"chain":      {{"./chain", ".", ""}},
	"twins":      {{"./sim", "^TestTwins", ""}},
	"campaign":   {{"./sim", "^TestCampaign$", "SIM_SEEDS=0..19"}},
}

// ofPackage is the suites of a package's mutants, if they name none.
var ofPackage = map[string][]string{
	"types": {"types", "ledger"}, "tlog": {"tlog"}, "forest": {"forest"}, "trie": {"trie"}, "ledger": {"ledger"}, "proof": {"trust", "proof"},
	"pool": {"pool"}, "consensus": {"transcript", "consensus", "twins", "campaign"}, "store": {"signing", "store"}, "chain": {"chain"},
}

// mutants is the list. The texts are as short as they can be and still be there once.
var mutants = slices.Concat(quorums, finality, choosing, blocks, building, memory, effects, checks, durability, alphabet, proofs, guards)

// quorums: how much is enough, and whose shares count.
var quorums = []mutant{
	{name: "two thirds are at least that", file: "consensus/run.go", old: "x > 2*all/3", new: "x >= 2*all/3"},
	{name: "two thirds are a half", file: "consensus/run.go", old: "x > 2*all/3", new: "x > all/2"},
	{name: "a half is at least that", file: "consensus/run.go", old: "x > all/2", new: "x >= all/2"},
	{name: "a third is at least that", file: "consensus/run.go", old: "x > all/3 }", new: "x >= all/3 }"},
	{name: "an author with two blocks counts twice", file: "consensus/rules.go", old: "v.author < 0 || c.mark[v.author] == c.epoch", new: "v.author < 0"},
	{name: "forked authors do not count for finality", file: "consensus/rules.go", old: "v.author < 0 || c.mark[v.author] == c.epoch", new: "v.author < 0 || c.authors[v.author].forked || c.mark[v.author] == c.epoch"},
	{name: "one run's shares are counted in another", file: "consensus/rules.go", old: "sum += c.once(r, n)", new: "sum += c.once(c.runFor(c.all, g.height), n)"},
	{name: "the seed is drawn without the old seed", file: "consensus/run.go", old: "tagSeed.Hash(r.Seed[:], output[:])", new: "tagSeed.Hash(output[:])"},
	{name: "a run starts one height early", file: "consensus/run.go", old: "Start: a.height + p.RunTail,", new: "Start: a.height + p.RunTail - 1,"},
	{name: "a run is closed below its mark", file: "consensus/run.go", old: "n.height >= n.run.mark", new: "n.height+1 >= n.run.mark"},
	{name: "a run decides the last height of the one before", file: "consensus/run.go", old: "n.height+1 >= n.closing.Start", new: "n.height+2 >= n.closing.Start"},
	{name: "a run has the snapshot of a period too early", file: "consensus/run.go", old: "(info.Start - p.SnapshotLag) / p.SnapshotPeriod", new: "info.Start / p.SnapshotPeriod"},
	{name: "equal draws go to the higher key", file: "consensus/draw.go", old: "string(ka[:]) < string(kb[:])", new: "string(ka[:]) > string(kb[:])"},
	{name: "a draw counts its logarithm one digit short", file: "consensus/draw.go", old: "digit := uint64(1) << 57", new: "digit := uint64(1) << 56"},
	{name: "a draw is not capped at all shares", file: "consensus/draw.go", old: "\t\treturn total\n", new: "\t\treturn 2 * total\n"},
}

// finality: anchors and the total order.
var finality = []mutant{
	{name: "fullness is not asked of a leader's block", file: "consensus/finality.go", old: " || !c.full(v.past, r)", new: ""},
	{name: "soundness is not asked of a leader's block", file: "consensus/finality.go", old: "if c.sound(v) {", new: "if true {"},
	{name: "anybody's block may be the anchor", file: "consensus/finality.go", old: "v.author != leader || ", new: "leader < 0 || "},
	{name: "the newest run draws the leaders of older heights", file: "consensus/finality.go", old: "leader := c.draw(r, h).leader\n\tfor _, v := range c.at(h)", new: "leader := c.draw(c.all.dec.run, h).leader\n\tfor _, v := range c.at(h)"},
	{name: "an anchor decides from distance 2", file: "consensus/finality.go", old: "min(i+3, len(verdicts))", new: "min(i+2, len(verdicts))"},
	{name: "an anchor decides from distance 4", file: "consensus/finality.go", old: "min(i+3, len(verdicts))", new: "min(i+4, len(verdicts))"},
	{name: "an undecided height above is passed over", file: "consensus/finality.go", old: "if !v.known {\n\t\t\tbreak", new: "if !v.known {\n\t\t\tcontinue"},
	{name: "the view and not the anchor's past decides below it", file: "consensus/finality.go", old: "c.confirmedIn(v.anchor.past, r, l)", new: "c.confirmedIn(g, r, l)"},
	{name: "votes of a third confirm", file: "consensus/finality.go", old: "yes = moreThanTwoThirds(", new: "yes = moreThanThird("},
	{name: "blocks of a half that confirm make an anchor", file: "consensus/finality.go", old: "by = append(by, v)\n\t\t}\n\t}\n\treturn moreThanTwoThirds(", new: "by = append(by, v)\n\t\t}\n\t}\n\treturn moreThanHalf("},
	{name: "blocks that are not in the past confirm", file: "consensus/finality.go", old: "if c.holds(v.past, w) && c.names(w, l) {", new: "if c.names(w, l) {"},
	{name: "a height is empty when half do not name its block", file: "consensus/finality.go", old: "if !moreThanTwoThirds(c.sharesOf(r, without), r.total)", new: "if !moreThanHalf(c.sharesOf(r, without), r.total)"},
	{name: "a height is empty before two thirds are above it", file: "consensus/finality.go", old: "if !moreThanTwoThirds(c.sharesOf(r, there), r.total)", new: "if !moreThanThird(c.sharesOf(r, there), r.total)"},
	{name: "a fork's refusals do not count", file: "consensus/finality.go", old: "if !c.names(v, l) {\n\t\t\t\twithout", new: "if !c.names(v, l) && !c.authors[v.author].forked {\n\t\t\t\twithout"},
	{name: "the order does not ask the rank", file: "consensus/finality.go", old: "ra != rb {", new: "false && ra != rb {"},
	{name: "the order asks the rank in the wrong run", file: "consensus/finality.go", old: "r := d.runAt(a.height)", new: "r := d.run"},
	{name: "what an anchor brings is not sorted", file: "consensus/finality.go", old: "\tc.sortForOrder(found, d)\n", new: ""},
	{name: "the order leaves out the chain below the anchor's parent", file: "consensus/finality.go", old: "x != nil && x.ordered == 0; x = x.parent {", new: "x != nil && x.ordered == 0; x = nil {"},
	{name: "a third makes official", file: "consensus/finality.go", old: "case moreThanHalf(backing, r.total):", new: "case moreThanThird(backing, r.total):"},
	{name: "two peers are three that know", file: "consensus/finality.go", old: "n >= min(3, len(r.members))", new: "n >= min(2, len(r.members))"},
	{name: "a restart does not repeat decisions of a closed run", file: "consensus/finality.go", old: "if next := c.runs[info.Run+1]; next != nil", new: "if next := c.runs[info.Run+1]; false"},
}

// choosing: the fork choice, and witnesses.
var choosing = []mutant{
	{name: "forked authors know", file: "consensus/choice.go", old: "if g.forked(a) || c.mark[a] == c.epoch {", new: "if c.mark[a] == c.epoch {"},
	{name: "forked authors back", file: "consensus/choice.go", old: "s == 0 || g.forked(a) ||", new: "s == 0 ||"},
	{name: "only blocks of the last height count", file: "consensus/choice.go", old: "fresh && t.height+2 < g.height", new: "fresh && t.height+1 < g.height"},
	{name: "a block backs itself", file: "consensus/choice.go", old: "v := t.parent\n\t\tfor c.open(g.dec, v) {", new: "v := t\n\t\tfor c.open(g.dec, v) {"},
	{name: "the first of two thirds wins", file: "consensus/choice.go", old: "if thirds == 1 {", new: "if thirds >= 1 {"},
	{name: "the heaviest and not the median witness weighs", file: "consensus/choice.go", old: "uint64(top[1])>>44, uint64(top[1])<<20", new: "uint64(top[0])>>44, uint64(top[0])<<20"},
	{name: "of two witnesses the heavier weighs", file: "consensus/choice.go", old: "uint64(r.total)+uint64(top[1])", new: "uint64(r.total)+uint64(top[0])"},
	{name: "a third witness adds nothing", file: "consensus/choice.go", old: "case n >= 3:\n\t\tsum.add(0, 2*uint64(r.total))", new: "case n >= 3:\n\t\tsum.add(0, uint64(r.total))"},
	{name: "equal weights do not ask the rank", file: "consensus/choice.go", old: "if t.rank != u.rank {", new: "if false {"},
	{name: "equal weights go to the higher id", file: "consensus/choice.go", old: "bytes.Compare(t.id[:], u.id[:]) < 0", new: "bytes.Compare(t.id[:], u.id[:]) > 0"},
	{name: "weights have 64 bits", file: "consensus/choice.go", old: "w.hi, _ = bits.Add64(w.hi, hi, carry)", new: "_ = carry"},
	{name: "only the last anchor's past is closed", file: "consensus/choice.go", old: "for ; d != nil && d.height >= v.height; d = d.prev {", new: "for ; d != nil && d.height >= v.height; d = nil {"},
	{name: "the choice starts at the last anchor whoever backs it", file: "consensus/choice.go", old: "if moreThanThird(fc.backing[f], r.total) {", new: "if true {"},
	{name: "soundness asks the run that decides", file: "consensus/choice.go", old: "c.chosen(v.past, c.runFor(v.past, v.height))", new: "c.chosen(v.past, v.past.dec.run)"},
}

// blocks: when one is valid.
var blocks = []mutant{
	{name: "a block may leave heights out", file: "consensus/rules.go", old: "if b.Height != g.height {", new: "if b.Height < g.height {"},
	{name: "who knows of its own fork may build", file: "consensus/rules.go", old: "case g.forked(v.author):", new: "case false:"},
	{name: "previous need not be the highest", file: "consensus/rules.go", old: "v.previous != nil && v.previous.id != b.Previous:", new: "v.previous != nil && b.Previous.IsZero():"},
	{name: "two merges by one author are fine", file: "consensus/rules.go", old: "if c.mark[n.author] == c.epoch {\n\t\t\t\treturn", new: "if false {\n\t\t\t\treturn",
		same: "two blocks of one author are on one line, where one holds the other, or a fork: both may not be merged anyhow"},
	{name: "a merge may be in the past of another", file: "consensus/rules.go", old: "[n]; m != nil {", new: "[n]; m != nil && false {"},
	{name: "forked authors may be named", file: "consensus/rules.go", old: "if g.forked(n.author) && c.open(g.dec, n) {", new: "if false {"},
	{name: "forked authors may not be named where they are final", file: "consensus/rules.go", old: "if g.forked(n.author) && c.open(g.dec, n) {", new: "if g.forked(n.author) {"},
	{name: "time may go back by one", file: "consensus/rules.go", old: "if n.block.Time > b.Time {", new: "if n.block.Time > b.Time+1 {"},
	{name: "who is not full waits for the last and not the first", file: "consensus/rules.go", old: "due = min(due, n.block.Time+c.cfg.Params.WaitQuorum)", new: "due = max(due%types.MaxTime, n.block.Time+c.cfg.Params.WaitQuorum)"},
	{name: "blocks of any height make full", file: "consensus/rules.go", old: "if n.height+1 == g.height {\n\t\t\t\tsum", new: "if n.height < g.height {\n\t\t\t\tsum"},
	{name: "who has no shares may build", file: "consensus/rules.go", old: "if !known || g.dec.run.of(a) == 0 && (closing == nil || closing.of(a) == 0) {", new: "if !known {"},
	{name: "the coming run's peers may not build", file: "consensus/rules.go", old: "if !known || g.dec.run.of(a) == 0 && (closing == nil || closing.of(a) == 0) {", new: "if !known || g.dec.run.of(a) == 0 {"},
	{name: "a block is taken in before its time", file: "consensus/rules.go", old: "\tif b.Time > c.now {\n", new: "\tif b.Time > c.now+2*c.cfg.Params.WaitQuorum {\n"},
	{name: "any future is kept", file: "consensus/rules.go", old: "if b.Time > c.now+2*c.cfg.Params.WaitQuorum {", new: "if b.Time > c.now+2000*c.cfg.Params.WaitQuorum {"},
	{name: "a fork counts only at one height", file: "consensus/graph.go", old: "lines[v.block.Previous]; twin == nil {", new: "lines[v.block.Previous]; twin == nil || twin.height != v.height {"},
	{name: "a merged view forgets forks", file: "consensus/graph.go", old: "for a := range from.forks {\n\t\tc.fork(g, a)\n\t}", new: ""},
	{name: "to name the author is to name the block", file: "consensus/graph.go", old: "return t.height >= v.height\n\t}\n\tif c.onLine(t, v) {", new: "return t.height >= v.height\n\t}\n\tif t.height >= v.height {"},
	{name: "who waits for two blocks enters with the first", file: "consensus/rules.go", old: "if len(absent) == 0 {", new: "if len(absent) == 0 || len(named) > 2 {"},
}

// building: when, and what.
var building = []mutant{
	{name: "a step needs only a third below it", file: "consensus/build.go", old: "if !r.ready || !moreThanTwoThirds(c.sharesOf(r, there), r.total) {", new: "if !r.ready || !moreThanThird(c.sharesOf(r, there), r.total) {"},
	{name: "a step does not wait for the leader", file: "consensus/build.go", old: "!c.leaderHere(r, g) || ", new: ""},
	{name: "a step does not wait for votes", file: "consensus/build.go", old: " || !c.votesHere(r, g, there)", new: ""},
	{name: "a step waits for leaders that are silent", file: "consensus/build.go", old: "g > 2 && c.by(leader, g-1) == nil", new: "false && c.by(leader, g-1) == nil"},
	{name: "the coming run is built for alone", file: "consensus/build.go", old: "old != r {", new: "false {"},
	{name: "one peer ahead pulls all up", file: "consensus/build.go", old: "moreThanThird(sum, r.total) {", new: "sum > 0 {"},
	{name: "a climb passes over two heights more", file: "consensus/build.go", old: "return max(g+1, n-min(2, n))", new: "return max(g+1, n)"},
	{name: "forked authors are named", file: "consensus/build.go", old: "if c.authors[a].forked {\n\t\t\tcontinue", new: "if a < 0 {\n\t\t\tcontinue"},
	{name: "what another holds is named too", file: "consensus/build.go", old: "return u != t && c.holds(u.past, t)", new: "return false"},
	{name: "idle peers do not rest", file: "consensus/build.go", old: "!c.hurry(g) {", new: "false {"},
}

// memory: pruning and restarts.
var memory = []mutant{
	{name: "a stored past forgets forks", file: "consensus/past.go", old: "t.id, g.forked(a)}", new: "t.id, false}"},
}

// effects: what transactions do to the state.
var effects = []mutant{
	{name: "the fee is not counted for its author", file: "ledger/overlay.go", old: "\t\tauthor.Fees = must(author.Fees.Add(t.Tx.Fee))\n", new: "\t\t_ = author\n"},
	{name: "the fee is not counted in the sum", file: "ledger/overlay.go", old: "\t\to.fees = must(o.fees.Add(t.Tx.Fee))\n", new: ""},
	{name: "an output is spent twice in one batch", file: "ledger/overlay.go", old: "if s := o.outputs[position]; s != nil {", new: "if s := o.outputs[position]; s != nil && s.SpentHeight == 0 {"},
	{name: "a spent output may be spent", file: "ledger/overlay.go", old: "case state.SpentHeight != 0:", new: "case false:"},
	{name: "an input may claim another value or lock", file: "ledger/overlay.go", old: " || state.Output != in.Output:", new: ":"},
	{name: "an input may claim another source", file: "ledger/overlay.go", old: "state.Source != in.Source || ", new: ""},
	{name: "a transaction ends one millisecond early", file: "ledger/overlay.go", old: "o.time > tx.ValidUntil", new: "o.time >= tx.ValidUntil"},
	{name: "a transaction begins one millisecond late", file: "ledger/overlay.go", old: "o.time < tx.ValidFrom", new: "o.time <= tx.ValidFrom"},
	{name: "a lock's time is counted from now", file: "ledger/overlay.go", old: "spent[r.Input].BornTime+r.Leaf.Older", new: "r.Leaf.Older"},
	{name: "what was rejected for good may come again", file: "ledger/ledger.go", old: "r != types.NoReason && r != types.TooEarly", new: "false"},
	{name: "what came too early is rejected for good", file: "ledger/ledger.go", old: "r != types.NoReason && r != types.TooEarly", new: "r != types.NoReason"},
	{name: "an applied transaction is applied again", file: "ledger/overlay.go", old: "before.Kind != types.Rejected || ", new: "before.Kind == types.Payout || "},
	{name: "a name may be taken from its holder", file: "ledger/overlay.go", old: "case !holder.IsZero() && holder != r.Peer:", new: "case !holder.IsZero() && holder.IsZero():"},
	{name: "a stranger may host", file: "ledger/overlay.go", old: "} else if p == nil {\n\t\t\treturn types.UnknownHost", new: "} else if p == nil && out.Value == 0 {\n\t\t\treturn types.UnknownHost"},
	{name: "the snapshot is taken before fees are paid", file: "ledger/overlay.go", old: "\t*p = *state\n", new: ""},
	{name: "fees are paid again at each snapshot", file: "ledger/overlay.go", old: "\tstate.Fees = 0\n", new: ""},
	{name: "paid fees are hosted by nobody", file: "ledger/overlay.go", old: "Lock: p.Reward, Host: p.Peer}", new: "Lock: p.Reward}"},
	{name: "too many peers: those with the least stay", file: "ledger/standing.go", old: "cmp.Compare(b.Shares, a.Shares)", new: "cmp.Compare(a.Shares, b.Shares)"},
	{name: "peers without shares are in the snapshot", file: "ledger/standing.go", old: "case p.Shares == 0:", new: "case p.Shares == 0 && p.Standing.Offended > 0:"},
	{name: "an offender keeps its weight", file: "ledger/standing.go", old: "case p.Standing.Offended > 0:", new: "case false:"},
	{name: "the absent of more than a tenth lose their weight", file: "ledger/standing.go", old: "if left+p.Shares <= total/10 {", new: "if left+p.Shares <= total/2 {"},
	{name: "who is there at a third of the heights is absent", file: "ledger/standing.go", old: "4*uint64(s.Present) <", new: "3*uint64(s.Present) <"},
	{name: "to be named twice at a height counts twice", file: "ledger/standing.go", old: "if w.Height-1 > p.Last {", new: "if w.Height-1 >= p.Last {"},
	{name: "to renew an entry loses its shares", file: "ledger/overlay.go", old: "\t\tstate = *old\n", new: "\t\tstate.Fees = old.Fees\n"},
	{name: "shares stay with the host of a spent output", file: "ledger/overlay.go", old: "return shares.Sub(state.Output.Value)", new: "return shares, nil"},
	{name: "an output spent in its batch is unspent in the tree", file: "ledger/state.go", old: "appends[at-c.First] = leaf", new: "_ = leaf"},
	{name: "events are counted on behind a checkpoint", file: "ledger/state.go", old: "\tnext.Events = tlog.Frontier{}\n", new: "\t_ = tlog.Frontier{}\n"},
	{name: "a checkpoint is not in the history", file: "ledger/state.go", old: "s.History.Append(HistoryLeaf(cp.ID()))", new: "s.History"},
	{name: "a state commits to the first snapshot for ever", file: "ledger/state.go", old: "if c.Snapshot != nil {\n\t\tnext", new: "if c.Snapshot != nil && s.Snapshot.IsZero() {\n\t\tnext"},
}

// checks: what is valid by itself.
var checks = []mutant{
	{name: "fees need not balance", file: "ledger/check.go", old: "if in != out {", new: "if in < out {"},
	{name: "the fee is not in the balance", file: "ledger/check.go", old: "if out, err = out.Add(tx.Fee); err != nil {", new: "if _, err = out.Add(tx.Fee); err != nil {"},
	{name: "more keys than the threshold may be chosen", file: "ledger/check.go", old: "chosen != int(r.Leaf.Threshold)", new: "chosen < int(r.Leaf.Threshold)"},
	{name: "any preimage opens a hash lock", file: "ledger/check.go", old: "got != r.Leaf.HashLock {", new: "got != r.Leaf.HashLock && r.Preimage.IsZero() {"},
	{name: "any leaf opens a lock", file: "ledger/check.go", old: "r.Inner, r.Leaf, r.Path); err != nil {", new: "r.Inner, r.Leaf, r.Path); err != nil && len(r.Path) > 3 {"},
	{name: "a peer's entry need not be signed by it", file: "ledger/check.go", old: "sig.VerifyAll(p.Signatures)", new: "sig.VerifyAll(p.Signatures[:1])"},
	{name: "an output may be locked by no key", file: "ledger/check.go", old: "sig.CheckKey(output.Lock); err != nil {", new: "sig.CheckKey(output.Lock); err != nil && false {"},
	{name: "two entries may claim one name", file: "ledger/check.go", old: "return []any{r.Peer, r.Name}, nil", new: "return []any{r.Peer}, nil"},
	{name: "an output may vote twice to reinstate", file: "ledger/check.go", old: "if voted[held.Position] {", new: "if false {"},
	{name: "outputs of nothing may be made", file: "ledger/check.go", old: "if output.Value == 0 {", new: "if false {"},
}

// durability: what a crash must not lose, and what must not be signed.
var durability = []mutant{
	{name: "an own block is sent before it is durable", file: "store/log.go", old: "l.add(b, &blk, h); err != nil {\n\t\t\treturn err\n\t\t}\n\t\treturn l.db.ApplyNoSyncWait(b, pebble.Sync)", new: "l.add(b, &blk, h); err != nil {\n\t\t\treturn err\n\t\t}\n\t\treturn l.db.Apply(b, pebble.NoSync)"},
	{name: "a vote is sent before it is durable", file: "store/log.go", old: "func() error { return l.db.ApplyNoSyncWait(b, pebble.Sync) }", new: "func() error { return l.db.Apply(b, pebble.NoSync) }"},
	{name: "a payment is acknowledged before it is durable", file: "store/log.go", old: "\t}\n\treturn l.db.ApplyNoSyncWait(b, pebble.Sync)", new: "\t}\n\treturn l.db.Apply(b, pebble.NoSync)"},
	{name: "blocks of others are durable before they are", file: "store/log.go", old: "l.unsynced.Store(false)\n\t\treturn l.db.ApplyNoSyncWait(b, pebble.Sync)\n\t}\n\tl.unsynced.Store(true)", new: "l.unsynced.Store(false)\n\t\treturn l.db.Apply(b, pebble.NoSync)\n\t}\n\tl.unsynced.Store(true)"},
	{name: "unsynced blocks are forgotten to be synced", file: "store/log.go", old: "\tl.unsynced.Store(true)\n", new: ""},
	{name: "the state is committed before its blocks are durable", file: "store/state.go", old: "if err := s.log.sync(); err != nil {", new: "if err := error(nil); err != nil {"},
	{name: "the second copy of the safety record is not written", file: "store/log.go", old: "return l.signed.write(r)", new: "return nil"},
	{name: "the safety record is not in the log", file: "store/log.go", old: "b.Set([]byte{logSigned}, r.encode(), nil); err != nil {", new: "b.LogData(nil, nil); err != nil {"},
	{name: "the record's own block need not be there", file: "store/record.go", old: "if height != inLog.Height || id != inLog.Block {", new: "if false {"},
}

// alphabet: numbers and encodings.
var alphabet = []mutant{
	{name: "amounts are taken from less than nothing", file: "types/amount.go", old: "\tif b > a {", new: "\tif false {"},
	{name: "an id does not say of which chain", file: "types/transaction.go", old: "tagTransaction.Hash(chain[:], body)", new: "tagTransaction.Hash(body)"},
	{name: "a leaf may have a key twice", file: "types/transaction.go", old: "bytes.Compare(l.Keys[i-1][:], l.Keys[i][:]) >= 0", new: "bytes.Compare(l.Keys[i-1][:], l.Keys[i][:]) > 0"},
	{name: "an input may be revealed twice", file: "types/transaction.go", old: "t.Reveals[i-1].Input >= r.Input", new: "t.Reveals[i-1].Input > r.Input"},
	{name: "a merge may be there twice", file: "types/block.go", old: "bytes.Compare(b.Merges[i-1][:], m[:]) >= 0", new: "bytes.Compare(b.Merges[i-1][:], m[:]) > 0"},
	{name: "the parent may be merged", file: "types/block.go", old: " || m == b.Parent {", new: " {"},
	{name: "counts are believed before there are bytes", file: "types/encoding.go", old: "min(max, d.Left()/size)", new: "max"},
	{name: "times above the greatest are read", file: "types/encoding.go", old: "if v > uint64(MaxTime) {", new: "if v > uint64(MaxTime)+1 {"},
	{name: "a payload may be larger than the bound", file: "types/block.go", old: "if b.PayloadBytes > MaxPayload {", new: "if b.PayloadBytes > 2*MaxPayload {"},
}

// proofs: what a wallet believes.
var proofs = []mutant{
	{name: "a certificate of exactly two thirds is enough", file: "proof/trust.go", old: "hi3 == hi2 && lo3 > lo2", new: "hi3 == hi2 && lo3 >= lo2"},
	{name: "a member may vote twice", file: "proof/trust.go", old: "cert.Votes[i-1].Index >= v.Index {", new: "cert.Votes[i-1].Index > v.Index {"},
	{name: "a stale snapshot certifies", file: "proof/trust.go", old: "if snap.Height < t.Oldest {", new: "if false {"},
	{name: "a snapshot certifies before its run", file: "proof/trust.go", old: "if snap.Height > newest {", new: "if false {"},
	{name: "leaves are hashed like nodes", file: "tlog/tlog.go", old: "h.Write([]byte{0})", new: "h.Write([]byte{1})"},
	{name: "a transaction is taken from its host without patience", file: "pool/pool.go", old: "max(e.due, now+p.limits.Patience)", new: "max(e.due, now)"},
	{name: "two that wait may spend one output", file: "pool/pool.go", old: "if other := p.spends[in.Position]; other != nil {", new: "if other := p.spends[in.Position]; false {"},
	{name: "a pool holds more bytes than it may", file: "pool/pool.go", old: " || p.bytes+len(raw) > p.limits.Bytes {", new: " {"},
}

// guards that incidents of others are about, each to be found by its scenario.
var guards = []mutant{
	{name: "an older copy of the log is not seen", file: "store/record.go", old: "inLog.Count != inFile.Count && inLog.Count != inFile.Count+1, ", new: "inLog.Count > inFile.Count+1, ", incident: "TestKusamaDoubleVotes"},
	{name: "blocks are pruned whose past is still asked", file: "consensus/graph.go", old: "floor = min(floor, v.past.dec.height)", new: "_ = v", incident: "TestSuiPruned"},
	{name: "old votes make all be decided again", file: "consensus/finality.go", old: "from := c.all.dec", new: "from := c.first()", incident: "TestEthereumOldVotes"},
	{name: "any digest of its past is taken", file: "consensus/rules.go", old: "past != b.Past {", new: "past != b.Past && false {", incident: "TestHoleskySupermajority"},
	{name: "only who takes the leader's block as parent votes", file: "consensus/finality.go", old: "if c.holds(v.past, w) && c.names(w, l) {", new: "if c.holds(v.past, w) && w.parent == l {", incident: "TestGasperBouncing"},
	{name: "knowers are counted in the view", file: "consensus/choice.go", old: "if c.holds(g, v) && c.names(v, x) {", new: "if c.names(v, x) {", incident: "TestGasperBalancing"},
	{name: "any number of blocks may wait for what is missing", file: "consensus/rules.go", old: "return len(c.pending) < most && (c.again || c.queued[author] < maxLine)", new: "return true || most > 0", incident: "TestPullInduction"},
	{name: "peers come in the order of a map", file: "ledger/overlay.go", old: "\tsortPeers(all)\n", new: "", incident: "TestAptosNondeterminism"},
	{name: "a version that is named is left out", file: "consensus/rules.go", old: " && len(c.waiters[id]) == 0", new: "", incident: "TestSolanaStaleVersion"},
	{name: "a transaction may spend an output twice", file: "ledger/check.go", old: "places[input.Position]; twice {", new: "places[input.Position]; twice && first < 0 {", incident: "TestDuplicateInputs"},
	{name: "an odd leaf is paired with itself", file: "tlog/tlog.go", old: "h := f.peaks[len(f.peaks)-1]\n", new: "h := f.peaks[len(f.peaks)-1]\n\tif f.size%4 == 3 {\n\t\th = inner(h, h)\n\t}\n", incident: "TestDuplicateLeaves"},
	{name: "sums of amounts are not checked", file: "types/amount.go", old: "if a > MaxSupply || b > MaxSupply-a {", new: "if false {", incident: "TestOverflow"},
	{name: "any fee is enough", file: "ledger/check.go", old: "tx.Fee < least {", new: "tx.Fee < min(least, 0) {", incident: "TestNanoSpam"},
	{name: "who is not full need not wait", file: "consensus/rules.go", old: "b.Time < due {", new: "b.Time < min(due, 0) {", incident: "TestClassicPrivateChain"},
}
