package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/client"
	"charter/internal/chaos"
	"charter/peer"
	"charter/types"
)

// localnet is a network on this machine: peers as processes of this program, each with its own
// directory, talking over loopback. Demo and bench run on one.
//
//	DIR/genesis.json
//	DIR/peer-1 …      what `charter peer init` makes, and the file log
type localnet struct {
	dir     string
	genesis *types.Genesis
	peers   []*localPeer
}

// program is the file of this program, that peers are run by; empty for the running one.
// Tests, which are another program, set it.
var program string

// localPeer is one peer of a localnet.
type localPeer struct {
	name  string
	dir   string
	key   types.Key
	api   string       // host:port
	debug string       // host:port
	space *chaos.Space // where it runs; nil for this process's own network
	http  *http.Client // reaches api; nil for http.DefaultClient
	env   []string     // of its process, besides this one's
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	err   error         // how, then
}

const genesisFile = "genesis.json"

// place is where a peer of a localnet is reached.
type place struct {
	udp, api, debug string       // host:port
	space           *chaos.Space // in which that is; nil for this process's own network
}

// newLocalnet makes the directories of n peers on this machine's loopback, and the genesis that
// owners gives for them.
func newLocalnet(dir string, n int, network string, params types.Params, owners func(peers []types.Key) []types.GenesisOutput) (*localnet, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	udp, err := freeUDPPorts(n)
	if err != nil {
		return nil, err
	}
	var places []place
	for i := range n {
		places = append(places, place{udp: udp[i], api: ports[2*i], debug: ports[2*i+1]})
	}
	return placeLocalnet(dir, places, network, params, nil, owners)
}

// placeLocalnet does so for a peer at each of the places, with further settings for all.
func placeLocalnet(dir string, places []place, network string, params types.Params, settings map[string]string, owners func(peers []types.Key) []types.GenesisOutput) (*localnet, error) {
	net := &localnet{dir: dir, genesis: &types.Genesis{Network: network, Time: types.MillisOf(time.Now()), Params: params}}
	var keys []types.Key
	for i, at := range places {
		p := &localPeer{name: fmt.Sprintf("peer-%d", i+1), api: at.api, debug: at.debug, space: at.space}
		p.dir = filepath.Join(dir, p.name)
		if p.space != nil {
			p.http = &http.Client{Transport: &http.Transport{DialContext: p.space.Dial, MaxIdleConnsPerHost: 16}}
		}
		var err error
		all := map[string]string{"genesis": filepath.Join("..", genesisFile), "api_requests": "100000", "api": p.api, "debug": p.debug, "log_level": "info"}
		maps.Copy(all, settings)
		p.key, err = peer.Init(p.dir, all)
		if err != nil {
			return nil, err
		}
		net.peers = append(net.peers, p)
		keys = append(keys, p.key)
		net.genesis.Peers = append(net.genesis.Peers, types.GenesisPeer{Peer: p.key, Name: p.name, Address: at.udp, Reward: p.key})
	}
	net.genesis.Outputs = owners(keys)
	if err := net.genesis.Check(); err != nil {
		return nil, err
	}
	return net, client.WriteFile(filepath.Join(dir, genesisFile), net.genesis.JSON(), 0o644)
}

// openLocalnet finds the peers of a directory that newLocalnet made.
func openLocalnet(dir string) (*localnet, error) {
	genesis, err := peer.ReadGenesis(filepath.Join(dir, genesisFile))
	if err != nil {
		return nil, err
	}
	net := &localnet{dir: dir, genesis: genesis}
	for _, g := range genesis.Peers {
		p := &localPeer{name: g.Name, dir: filepath.Join(dir, g.Name), key: g.Peer}
		config, err := peer.Load(map[string]string{"dir": p.dir}, nil)
		if err != nil {
			return nil, err
		}
		p.api, p.debug = config.API, config.Debug
		net.peers = append(net.peers, p)
	}
	return net, nil
}

// start starts all peers and waits until each serves and has come to a height.
func (n *localnet) start(ctx context.Context, ready func(*localPeer)) error {
	for _, p := range n.peers {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range n.peers {
		if err := p.await(ctx); err != nil {
			return err
		}
		ready(p)
	}
	return nil
}

func (p *localPeer) start() error {
	file := program
	if file == "" {
		var err error
		if file, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program, to start %s: %w", p.name, err)
		}
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(file, "peer", "run", "--dir", p.dir)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = log, log, append(os.Environ(), p.env...)
	apart(p.cmd) // Ctrl-C is for us: we stop them in order
	start := p.cmd.Start
	if p.space != nil {
		start = func() error { return p.space.Do(p.cmd.Start) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.done = make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// kill ends the peer's process at once, and waits until it has.
func (p *localPeer) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.done
	return nil
}

// client is a client of the peer's API.
func (p *localPeer) client() charterv1connect.AgentClient {
	c := p.http
	if c == nil {
		c = http.DefaultClient
	}
	return charterv1connect.NewAgentClient(c, "http://"+p.api)
}

// status is what the peer tells of itself.
func (p *localPeer) status(ctx context.Context) (*v1.StatusResponse, error) {
	r, err := p.client().Status(ctx, connect.NewRequest(&v1.StatusRequest{}))
	if err != nil {
		return nil, fmt.Errorf("%s: status: %w", p.name, err)
	}
	return r.Msg, nil
}

// await waits until the peer answers.
func (p *localPeer) await(ctx context.Context) error {
	all := ctx
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		s, err := p.status(ctx)
		if err == nil && s.Height > 0 {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once (%v); its log ends:\n%s", p.name, p.err, p.tail())
		case <-all.Done():
			return all.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at http://%s: %w; its log ends:\n%s", p.name, p.api, ctx.Err(), p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the last lines of the peer's log.
func (p *localPeer) tail() string {
	data, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// stop ends all peers in good order, and says which did not.
func (n *localnet) stop() error {
	var errs []error
	for _, p := range n.peers {
		if p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // if it has ended, done says so
		}
	}
	for _, p := range n.peers {
		if p.cmd == nil {
			continue
		}
		select {
		case <-p.done:
			if p.err != nil {
				errs = append(errs, fmt.Errorf("%s: %w; its log ends:\n%s", p.name, p.err, p.tail()))
			}
		case <-time.After(15 * time.Second):
			_ = p.cmd.Process.Kill()
			errs = append(errs, fmt.Errorf("%s did not stop within 15 s, and was killed", p.name))
		}
		p.cmd = nil
	}
	return errors.Join(errs...)
}

// freePorts finds n TCP ports on loopback that are free now.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// freeUDPPorts finds n UDP ports on loopback that are free now.
func freeUDPPorts(n int) (addresses []string, err error) {
	for range n {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer c.Close()
		addresses = append(addresses, c.LocalAddr().String())
	}
	return addresses, nil
}
