package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// plotTiers draws how many payments took how long to each tier.
func plotTiers(out io.Writer, tiers []tierTimes) {
	if len(tiers) == 0 || len(tiers[0].Buckets) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%-10s%9s%9s   share of payments, by time up to, ms\n%31s", "tier", "p50 ms", "p99 ms", "")
	for _, b := range tiers[0].Buckets {
		if b.Le == 0 {
			fmt.Fprint(out, "  more")
		} else {
			fmt.Fprintf(out, "%6.0f", b.Le)
		}
	}
	fmt.Fprintln(out)
	for _, t := range tiers {
		var all float64
		for _, b := range t.Buckets {
			all += b.Count
		}
		fmt.Fprintf(out, "%-10s%9.1f%9.1f   ", t.Tier, t.P50, t.P99)
		for _, b := range t.Buckets {
			fmt.Fprintf(out, "%6s", bar(b.Count/math.Max(all, 1), 5))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}

// plotLatency draws final times against what was paid.
func plotLatency(out io.Writer, all []netSummary) {
	var most float64
	for _, s := range all {
		most = math.Max(most, s.Final.P99)
	}
	fmt.Fprintf(out, "\n%9s %9s   final after, ms: p50 █, p99 ░, by their logarithm\n", "asked/s", "final/s")
	length := func(ms float64) int {
		return int(math.Round(60 * math.Log(math.Max(ms, 1)) / math.Log(math.Max(most, 2))))
	}
	for _, s := range all {
		asked := "most"
		if s.Rate > 0 {
			asked = fmt.Sprintf("%.0f", s.Rate)
		}
		p50, p99 := length(s.Final.P50), length(s.Final.P99)
		fmt.Fprintf(out, "%9s %9.0f   %s%s %.0f … %.0f\n", asked, s.TPS, strings.Repeat("█", p50), strings.Repeat("░", p99-p50), s.Final.P50, s.Final.P99)
	}
	fmt.Fprintln(out)
}

// bar is a part of one as a bar of so many cells at most, in eighths of a cell.
func bar(part float64, cells int) string {
	eighths := int(math.Round(part * float64(8*cells)))
	if eighths == 0 && part > 0 {
		return "·"
	}
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}
