//go:build unix && !linux

package process

const hardenedDumpable = "unknown"

func dumpable() string { return "unknown" }
