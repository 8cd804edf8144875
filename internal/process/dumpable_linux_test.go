package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const hardenedDumpable = "0"

func dumpable() string {
	flag, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(flag)
}
