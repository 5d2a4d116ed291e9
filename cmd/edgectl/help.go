package main

import "github.com/spf13/cobra"

// topics are what `edgectl help` knows besides commands.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "what exit codes mean", Long: `Exit codes of edgectl and edged:

  0  ok
  1  what was asked about is not well or differs (status, geos, routes), or something else failed
  2  the command line is wrong
  3  the configuration is not valid
  4  the daemon cannot be reached
  5  not allowed
  6  timed out (--deadline)`},
		{Use: "output", Short: "formats, colors, --watch", Long: `Output

  -o table   for people, the default. Columns are aligned; only on a terminal is the last one cut at the right edge.
  -o json    one document with full numbers. Names are stable, and only ever added to.
  -o jsonl   one value a line: an entry of the list, or the whole
  -o yaml    the same as json
  -o name    names alone, one a line

  --no-headers    leaves out the tables' headers
  --color         auto (on a terminal, unless NO_COLOR is set or TERM is dumb), always, never
  -w, --watch [2s]  shows it again and again: redraws on a terminal, appends lines of JSON elsewhere

Data goes to standard output; hints and questions go to standard error.
A column shows "-" where there is no value and "?" where it is not known. Ages are like 0.4s, 41s, 4m12s, 3h12m, 12d4h.`},
		{Use: "targets", Short: "which daemon is asked", Long: `Which daemon is asked

  1. --socket PATH
  2. the environment variable EDGECTL_SOCKET
  3. admin.socket of /etc/edged/edged.yaml
  4. /run/edged/edged.sock; for a user without an installed edged, edged/edged.sock in XDG_STATE_HOME or ~/.local/state

It answers for its own node; what it knows of other geos came over the fabric, with its age.
config, doctor, fabric init, fabric issue and completion need no daemon.`},
	}
}
