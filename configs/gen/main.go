// Command gen writes what is generated from the Go types of the configuration:
// edged.schema.json and docs/configuration.md. Run it by `go generate
// ./configs`, in the folder configs.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := generate("..")
	if err != nil {
		return err
	}
	for path, text := range files {
		// What is generated is read by everybody.
		if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // a file of the source tree, for every reader
			return err
		}
	}
	return nil
}
