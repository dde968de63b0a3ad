#!/bin/sh
# Consensus under fire: twelve real peers in network namespaces, killed, paused and cut off for ten
# minutes while wallets pay (spec/consensus-evidence.md, "Real processes"). Flags are those of
# `charter bench fire`, say:
#
#	internal/chaos/fire.sh --duration 2m --seed 7 --json
#
# It needs Linux and Go, and either root or the right to make user namespaces; without that it says
# so and is skipped. The exit status is 1 if something does not hold.
set -u
cd "$(dirname "$0")/../.." || exit 1

program=$(mktemp -d) || exit 1
trap 'rm -rf "$program"' EXIT
go build -o "$program/charter" ./cmd/charter || exit 1

inside=
if [ "$(id -u)" != 0 ]; then
	if ! unshare -rn true 2>/dev/null; then
		echo "skipped: this user may not make namespaces (unshare -rn); run it as root"
		exit 0
	fi
	inside="unshare -rn"
fi
$inside "$program/charter" bench fire "$@"
status=$?
if [ $status = 77 ]; then
	echo "skipped: namespaces or /dev/net/tun are not to be had here"
	exit 0
fi
exit $status
