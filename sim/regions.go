package sim

import "charter/types"

// regions are where peers stand under WAN latency, peer i in region i mod 10; roundTrips is
// the milliseconds of a round trip between two of them, as large clouds publish them,
// rounded. One way takes half.
var regions = [...]string{"Virginia", "Oregon", "São Paulo", "Ireland", "Frankfurt", "Cape Town", "Mumbai", "Singapore", "Tokyo", "Sydney"}

var roundTrips = [len(regions)][len(regions)]types.Millis{
	{2, 65, 115, 70, 92, 226, 190, 220, 150, 200},
	{65, 2, 175, 125, 145, 285, 220, 165, 100, 140},
	{115, 175, 2, 180, 205, 340, 305, 325, 256, 310},
	{70, 125, 180, 2, 26, 160, 125, 180, 205, 255},
	{92, 145, 205, 26, 2, 155, 115, 165, 225, 250},
	{226, 285, 340, 160, 155, 2, 280, 320, 360, 410},
	{190, 220, 305, 125, 115, 280, 2, 62, 125, 150},
	{220, 165, 325, 180, 165, 320, 62, 2, 70, 93},
	{150, 100, 256, 205, 225, 360, 125, 70, 2, 105},
	{200, 140, 310, 255, 250, 410, 150, 93, 105, 2},
}

// oneWay is the µs of a message between the regions of two peers, without what varies.
func oneWay(from, to int) int64 {
	return micros(roundTrips[from%len(regions)][to%len(regions)]) / 2
}
