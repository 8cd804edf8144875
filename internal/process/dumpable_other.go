//go:build unix && !linux

package process

// forbidDumps does nothing: only Linux has the flag; elsewhere the limit on core dumps is what there is.
func forbidDumps() (restore func(), err error) { return func() {}, nil }
