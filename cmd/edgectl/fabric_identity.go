package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"anyedge/configs"
	"anyedge/fabric/identity"
)

// defaultIdentityDir is where init and issue keep their files.
const defaultIdentityDir = "/etc/edged/fabric"

func (a *app) fabricInitCommand() *cobra.Command {
	var dir, domain string
	c := a.command(&cobra.Command{
		Use:   "init --trust-domain NAME",
		Short: "make a certificate authority and the fleet secret; needs no daemon",
		Long: "Init makes ca.crt, ca.key and secret in a directory. Do it once for the fleet, on a machine that you trust: ca.key\n" +
			"signs the nodes' certificates and never has to be on a node. Nothing is overwritten.",
	}, func(context.Context, []string) error {
		if domain == "" {
			domain = configuredDomain()
		}
		if domain == "" {
			return usagef("fabric init needs --trust-domain NAME, the fleet's own, like edge.example.net")
		}
		if err := identity.Init(dir, domain); err != nil {
			return err
		}
		if err := a.printFiles(dir, identity.CACertFile, identity.CAKeyFile, identity.SecretFile); err != nil {
			return err
		}
		a.hint("Next: edgectl fabric issue GEO NODE --dir %s, for every node. Keep %s off the nodes.", dir, filepath.Join(dir, identity.CAKeyFile))
		return nil
	})
	c.Flags().StringVar(&dir, "dir", defaultIdentityDir, "where the files go")
	c.Flags().StringVar(&domain, "trust-domain", "", "the name that all certificates share (default: fabric.trust_domain of "+configs.DefaultFile+")")
	return c
}

// configuredDomain returns the trust domain of this machine's configuration.
func configuredDomain() string {
	if c, _ := configs.Load(configs.DefaultFile); c != nil && c.Fabric != nil {
		return c.Fabric.TrustDomain
	}
	return ""
}

func (a *app) fabricIssueCommand() *cobra.Command {
	var dir string
	c := a.command(&cobra.Command{
		Use:   "issue GEO NODE",
		Short: "sign a node's certificate; needs no daemon",
		Long: "Issue makes GEO-NODE.crt and GEO-NODE.key beside the CA's files. Bring them to the node, with ca.crt and secret, and\n" +
			"name them under node.fabric and fabric. Nothing is overwritten.",
		Args: exactly("a geo", "a node"),
	}, func(_ context.Context, args []string) error {
		geo, node := args[0], args[1]
		if err := identity.IssueTo(dir, geo, node); err != nil {
			return err
		}
		base := geo + "-" + node
		if err := a.printFiles(dir, base+".crt", base+".key"); err != nil {
			return err
		}
		a.hint("Bring them to %s with %s and %s, readable by edged alone.", node, filepath.Join(dir, identity.CACertFile), filepath.Join(dir, identity.SecretFile))
		return nil
	})
	c.Flags().StringVar(&dir, "dir", defaultIdentityDir, "where the CA is, and where the files go")
	return c
}

// printFiles prints the paths of files that were made.
func (a *app) printFiles(dir string, names ...string) error {
	var paths []string
	for _, n := range names {
		paths = append(paths, filepath.Join(dir, n))
	}
	return a.print(view{
		data: map[string][]string{"files": paths}, rows: anys(paths), names: paths,
		table: func(p *page) {
			for _, path := range paths {
				p.line("%s", path)
			}
		},
	}, a.format)
}
