//go:build !unix || darwin

package term

// checkClipboard has nothing to find out: on macOS and Windows the clipboard belongs to the system.
func checkClipboard(func(string) string) error { return nil }
