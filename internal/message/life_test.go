package message_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"anyedge/internal/message"
)

var errOver = message.Ended("it is over")

func TestLife(t *testing.T) {
	l := new(message.Life)
	child, cancel := context.WithTimeout(l, time.Hour)
	defer cancel()
	called := make(chan string, 4)
	kept, stopped, other := message.NewHook(func() { called <- "kept" }), message.NewHook(func() { called <- "stopped" }), message.NewHook(func() { called <- "other" })
	kept.Attach(l)
	stopped.Attach(l)
	other.Attach(child)
	if l.Err() != nil || !stopped.Stop() || stopped.Stop() {
		t.Fatal("ended, or stopped twice")
	}
	l.Cancel(errOver)
	l.Cancel(context.Canceled) // too late
	<-child.Done()
	<-l.Done()
	got := map[string]bool{<-called: true, <-called: true}
	if !got["kept"] || !got["other"] || kept.Stop() || len(called) > 0 {
		t.Fatal(got, len(called))
	}
	for _, err := range []error{l.Err(), context.Cause(l), child.Err(), context.Cause(child)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is no context.Canceled", err)
		}
	}
	if !errors.Is(context.Cause(child), errOver) || l.Err().Error() != "it is over" {
		t.Errorf("%v, %v", context.Cause(child), l.Err())
	}
	stopped.Attach(l) // at once
	if s := <-called; s != "stopped" {
		t.Fatal(s)
	}
}

// Hooks come and go in any order.
func TestLifeHooks(t *testing.T) {
	l := new(message.Life)
	called := make(chan int, 8)
	var hooks []*message.Hook
	for i := range 5 {
		h := message.NewHook(func() { called <- i })
		h.Attach(l)
		hooks = append(hooks, h)
	}
	for _, i := range []int{2, 0, 4} {
		if !hooks[i].Stop() {
			t.Fatal(i)
		}
	}
	hooks[2].Attach(l)
	l.Cancel(errOver)
	if got := <-called + <-called + <-called; got != 1+3+2 || len(called) > 0 {
		t.Fatal(got)
	}
}
