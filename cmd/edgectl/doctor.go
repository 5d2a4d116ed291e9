package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// doctorFlags are what is passed on to edged doctor.
type doctorFlags struct {
	config, only string
	fixScript    bool
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	c := a.command(&cobra.Command{
		Use:   "doctor",
		Short: "look at this machine and say what to mend; needs no daemon, changes nothing",
		Long: "Doctor runs \"edged doctor\", from beside edgectl or from PATH: kernel, interfaces, MTU, kernel settings,\n" +
			"neighbors, the fabric, certificates, ports, clock and limits, each with its fix.\n" +
			"Exit code 1 means that something FAILs, 3 that the configuration is not valid.",
	}, func(ctx context.Context, _ []string) error { return a.doctor(ctx, f) })
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE` (default: as edged)")
	c.Flags().StringVar(&f.only, "only", "", "check these `AREAS` alone, like kernel,nic")
	c.Flags().BoolVar(&f.fixScript, "fix-script", false, "print a shell script with the fixes; it is not run")
	return c
}

// doctor runs edged doctor, which writes to the same places.
func (a *app) doctor(ctx context.Context, f doctorFlags) error {
	if a.format != "table" && a.format != "json" {
		return usagef("edgectl doctor -o %s: want table or json", a.format)
	}
	program, err := findEdged()
	if err != nil {
		return err
	}
	args := []string{"doctor", "-o", a.format, "--color", a.colors}
	if f.config != "" {
		args = append(args, "--config", f.config)
	}
	if f.only != "" {
		args = append(args, "--only", f.only)
	}
	if f.fixScript {
		args = append(args, "--fix-script")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = a.stdout, a.stderr
	err = cmd.Run()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case !ended:
		return fmt.Errorf("run %s: %w", program, err)
	}
	switch exit.ExitCode() {
	case exitUnhealthy:
		return errUnhealthy
	case exitConfig:
		return errConfig
	case exitUsage:
		return usagef("%s refuses these flags, as it says above", program)
	}
	return fmt.Errorf("%s doctor: %w", program, err)
}

// findEdged returns the edged that belongs to this edgectl: the one beside it,
// else the first in PATH.
func findEdged() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "edged")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath("edged")
	if err != nil {
		return "", errors.New("edged, whose work doctor is, is neither beside edgectl nor in PATH: install it there")
	}
	return path, nil
}
