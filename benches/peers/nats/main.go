// The loads of `lockstep bench` on NATS's own client: the same sends, the same clock, the same figures.
//
// A partition is a JetStream stream of its own: file storage, three replicas. With -rate the loop is open and a latency
// counts from when the message was due; without it it is closed and counts from the send. What was in flight at the end
// is waited for. Prints one line of JSON.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	stampBytes   = 16
	patience     = 30 * time.Second
	latencyMaxUs = 3_600_000_000
)

var (
	brokers     = flag.String("brokers", "", "addresses, separated by commas")
	topic       = flag.String("topic", "bench", "the first part of the streams' names")
	partitions  = flag.Int("partitions", 1, "streams")
	connections = flag.Int("connections", 1, "connections that publish")
	size        = flag.Int("size", 1024, "bytes of each message")
	rate        = flag.Float64("rate", 0, "messages a second; 0 for as many as are taken")
	inFlight    = flag.Int("in-flight", 4096, "messages without an answer, per connection")
	fill        = flag.Int64("fill", 256, "megabytes written before anything is read")
	readers     = flag.Int("readers", 1, "readers, each of everything")
	warmUp      = flag.Float64("warm-up", 2, "seconds that do not count")
	duration    = flag.Float64("duration", 10, "seconds that count")
)

// The time of the run, and the part of it that is measured.
var (
	origin     time.Time
	from, till time.Duration
	tag        = rand.Uint64()
	filler     []byte
)

func now() time.Duration { return time.Since(origin) }

func start() {
	from = time.Duration(*warmUp * float64(time.Second))
	till = from + time.Duration(*duration*float64(time.Second))
	origin = time.Now().Add(20 * time.Millisecond)
}

func measures(at time.Duration) bool { return at >= from && at < till }

// figures are latencies of what began in the measured time, and a count of what ended in it.
type figures struct {
	lock      sync.Mutex
	latencies *hdrhistogram.Histogram
	records   int64
}

func newFigures() *figures { return &figures{latencies: hdrhistogram.New(1, latencyMaxUs, 3)} }

func (f *figures) add(began, ended time.Duration, count int64) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if measures(began) {
		microseconds := max(1, (ended - began + 999*time.Nanosecond).Microseconds())
		_ = f.latencies.RecordValues(min(microseconds, latencyMaxUs), count)
	}
	if measures(ended) {
		f.records += count
	}
}

func (f *figures) json() map[string]any {
	histogram := [][2]int64{}
	for _, bar := range f.latencies.Distribution() {
		if bar.Count > 0 {
			histogram = append(histogram, [2]int64{bar.To, bar.Count})
		}
	}
	return map[string]any{
		"records": f.records, "bytes": f.records * int64(*size), "seconds": *duration, "histogram_us": histogram,
	}
}

var acknowledged, delivered, read = newFigures(), newFigures(), newFigures()

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("name a load: produce, end-to-end or consume")
	}
	load := os.Args[1]
	_ = flag.CommandLine.Parse(os.Args[2:])
	filler = make([]byte, *size)
	for at := range filler {
		filler[at] = byte(rand.Uint32())
	}
	createStreams()
	switch load {
	case "produce":
		produce(false)
	case "end-to-end":
		produce(true)
	case "consume":
		consume()
	default:
		log.Fatalf("no such load: %s", load)
	}
	deleteStreams()
	series := map[string]any{}
	for name, f := range map[string]*figures{"acknowledged": acknowledged, "delivered": delivered, "read": read} {
		if f.latencies.TotalCount() > 0 {
			series[name] = f.json()
		}
	}
	series["measured_from_unix_ms"] = origin.Add(from).UnixMilli()
	series["measured_to_unix_ms"] = origin.Add(till).UnixMilli()
	text, err := json.Marshal(series)
	must(err)
	fmt.Println(string(text))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func connect(options ...jetstream.JetStreamOpt) jetstream.JetStream {
	connection, err := nats.Connect(*brokers, nats.MaxReconnects(-1))
	must(err)
	stream, err := jetstream.New(connection, options...)
	must(err)
	return stream
}

func subject(partition int) string { return fmt.Sprintf("%s.%d", *topic, partition) }

func streamName(partition int) string { return fmt.Sprintf("%s-%d", *topic, partition) }

func createStreams() {
	js := connect()
	for partition := range *partitions {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: streamName(partition), Subjects: []string{subject(partition)},
			Storage: jetstream.FileStorage, Replicas: 3,
		})
		cancel()
		must(err)
	}
}

// deleteStreams leaves nothing that the next case would run on top of.
func deleteStreams() {
	js := connect()
	for partition := range *partitions {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		must(js.DeleteStream(ctx, streamName(partition)))
		cancel()
	}
}

func produce(subscribes bool) {
	var publishers []jetstream.JetStream
	for range *connections {
		publishers = append(publishers, connect(jetstream.WithPublishAsyncMaxPending(*inFlight)))
	}
	var subscribers, senders sync.WaitGroup
	var all atomic.Int64
	all.Store(-1)
	if subscribes {
		js := connect()
		for partition := range *partitions {
			subscribe(js, partition, &subscribers, &all)
		}
	}
	start()
	var sent atomic.Int64
	for connection, js := range publishers {
		senders.Add(1)
		go func() {
			defer senders.Done()
			sent.Add(send(js, connection))
		}()
	}
	senders.Wait()
	all.Store(sent.Load())
	subscribers.Wait()
}

// send publishes until the time is over, and waits for what is in flight; it returns how many there were.
func send(js jetstream.JetStream, connection int) int64 {
	type waiting struct {
		began  time.Duration
		future jetstream.PubAckFuture
	}
	pending := make(chan waiting, *inFlight)
	collected := make(chan struct{})
	go func() {
		for one := range pending {
			select {
			case <-one.future.Ok():
				acknowledged.add(one.began, now(), 1)
			case err := <-one.future.Err():
				log.Fatalf("a message was not stored: %v", err)
			}
		}
		close(collected)
	}()
	var sent int64
	for {
		began := now()
		if *rate > 0 {
			spacing := 1e9 / *rate
			began = time.Duration(spacing * (float64(connection) + float64(sent)*float64(*connections)))
			if wait := began - now(); wait > 0 && began < till {
				time.Sleep(wait)
			}
		}
		if began >= till {
			break
		}
		partition := (connection + int(sent)**connections) % *partitions
		value := append([]byte(nil), filler...)
		if len(value) >= stampBytes {
			binary.BigEndian.PutUint64(value, tag)
			binary.BigEndian.PutUint64(value[8:], uint64(began))
		}
		if *inFlight == 1 {
			_, err := js.Publish(context.Background(), subject(partition), value) // ends by the client's own timeout
			must(err)
			acknowledged.add(began, now(), 1)
		} else {
			// Bounded by the client, which waits for room: for as long as it takes.
			future, err := js.PublishAsync(subject(partition), value, jetstream.WithStallWait(patience))
			must(err)
			pending <- waiting{began, future}
		}
		sent++
	}
	close(pending)
	<-collected
	return sent
}

func subscribe(js jetstream.JetStream, partition int, done *sync.WaitGroup, all *atomic.Int64) {
	consumer, err := js.OrderedConsumer(context.Background(), streamName(partition), jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	must(err)
	messages, err := consumer.Messages()
	must(err)
	done.Add(1)
	go func() {
		for {
			message, err := messages.Next()
			if err != nil {
				return
			}
			value := message.Data()
			if len(value) >= stampBytes && binary.BigEndian.Uint64(value) == tag {
				delivered.add(time.Duration(binary.BigEndian.Uint64(value[8:])), now(), 1)
				seen.Add(1)
			}
		}
	}()
	go func() {
		defer done.Done()
		deadline := time.Time{}
		for all.Load() < 0 || seen.Load() < all.Load() {
			time.Sleep(5 * time.Millisecond)
			if all.Load() >= 0 && deadline.IsZero() {
				deadline = time.Now().Add(patience)
			}
			if !deadline.IsZero() && time.Now().After(deadline) {
				log.Fatalf("subscribers got %d of %d messages", seen.Load(), all.Load())
			}
		}
	}()
}

var seen atomic.Int64

func consume() {
	js := connect(jetstream.WithPublishAsyncMaxPending(*inFlight), jetstream.WithPublishAsyncErrHandler(
		func(_ jetstream.JetStream, _ *nats.Msg, err error) { log.Fatalf("a message was not stored: %v", err) }))
	messages := *fill * 1_000_000 / int64(*size)
	for message := range messages {
		partition := int(message) % *partitions
		_, err := js.PublishAsync(subject(partition), filler, jetstream.WithStallWait(patience))
		must(err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		log.Fatalf("%d messages were not acknowledged", js.PublishAsyncPending())
	}
	start()
	// Waiting for a message has no end of its own, and one for each would cost the reader time.
	watchdog := time.AfterFunc(till+patience, func() { log.Fatal("messages that are there could not be read") })
	defer watchdog.Stop()
	var done sync.WaitGroup
	for range *readers {
		done.Add(1)
		go func() {
			defer done.Done()
			readAgainAndAgain(connect(), messages)
		}()
	}
	done.Wait()
}

func readAgainAndAgain(js jetstream.JetStream, messages int64) {
	for now() < till {
		for partition := range *partitions {
			count := messages / int64(*partitions)
			consumer, err := js.OrderedConsumer(
				context.Background(), streamName(partition), jetstream.OrderedConsumerConfig{})
			must(err)
			iterator, err := consumer.Messages(jetstream.PullMaxMessages(10_000))
			must(err)
			for range count {
				asked := now()
				if asked >= till {
					break
				}
				_, err := iterator.Next()
				must(err)
				read.add(asked, now(), 1)
			}
			iterator.Stop()
		}
	}
}
