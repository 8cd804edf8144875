//go:build unix && !linux

package safefile

import "os"

// onReadOnlyMount makes no exception: container secrets are a matter of Linux.
func onReadOnlyMount(*os.File) bool { return false }
