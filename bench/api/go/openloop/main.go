// openloop sends requests at a fixed rate, whether or not earlier ones have been answered, and counts
// each answer's time from when its request was due: a service that stalls cannot slow the clock down.
//
//	openloop <address> <get|put> <requests per second> <seconds>
//
// Prints one line of JSON.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"math/rand"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	connections = 64
	people      = 10000
)

var dates = []string{"1960-01-31", "1971-02-28", "1982-03-15", "1993-04-30"}

type seen struct {
	times  []time.Duration
	not2xx int
	broken int
}

func main() {
	address, kind := os.Args[1], os.Args[2]
	rate, seconds := number(os.Args[3]), number(os.Args[4])
	total := int(rate * seconds)
	due := make(chan time.Time, total)
	results := make([]seen, connections)
	var working sync.WaitGroup
	for i := range results {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		working.Add(1)
		go func(result *seen, chance *rand.Rand) {
			defer working.Done()
			result.run(connection, kind, due, chance)
		}(&results[i], rand.New(rand.NewSource(int64(i))))
	}
	began := time.Now()
	dispatch(due, total, time.Duration(float64(time.Second)/rate))
	working.Wait()
	report(results, time.Since(began))
}

// dispatch hands out when each request is due, as soon as it is. The timers of the runtime are only
// exact to a millisecond, which is more than most answers take.
func dispatch(due chan<- time.Time, total int, interval time.Duration) {
	runtime.LockOSThread()
	pause := syscall.NsecToTimespec(int64(100 * time.Microsecond))
	began := time.Now()
	for i := 0; i < total; {
		at := began.Add(time.Duration(i) * interval)
		if time.Now().Before(at) {
			syscall.Nanosleep(&pause, nil)
			continue
		}
		due <- at
		i++
	}
	close(due)
}

func (s *seen) run(connection net.Conn, kind string, due <-chan time.Time, chance *rand.Rand) {
	answers := bufio.NewReader(connection)
	for at := range due {
		if _, err := connection.Write(request(kind, chance)); err != nil {
			s.broken++
			return
		}
		ok, err := readAnswer(answers)
		if err != nil {
			s.broken++
			return
		}
		if !ok {
			s.not2xx++
		}
		s.times = append(s.times, time.Since(at))
	}
}

// Person 407 is called "eah", as in load/hello.lua.
func request(kind string, chance *rand.Rand) []byte {
	name := []byte(strconv.Itoa(chance.Intn(people) + 1))
	for i := range name {
		name[i] += 'a' - '0'
	}
	if kind == "get" {
		return []byte(fmt.Sprintf("GET /hello/%s HTTP/1.1\r\nHost: a\r\n\r\n", name))
	}
	body := `{"dateOfBirth":"` + dates[chance.Intn(len(dates))] + `"}`
	return []byte(fmt.Sprintf("PUT /hello/%s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", name, len(body), body))
}

func readAnswer(answers *bufio.Reader) (ok bool, err error) {
	status, err := answers.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	ok = len(status) > 9 && status[9] == '2'
	length := 0
	for {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			_, err = answers.Discard(length)
			return ok, err
		}
		if name, value, found := bytes.Cut(line, []byte(":")); found &&
			bytes.EqualFold(name, []byte("content-length")) {
			length = int(number(string(bytes.TrimSpace(value))))
		}
	}
}

func report(results []seen, took time.Duration) {
	var all seen
	for _, result := range results {
		all.times = append(all.times, result.times...)
		all.not2xx += result.not2xx
		all.broken += result.broken
	}
	sort.Slice(all.times, func(a, b int) bool { return all.times[a] < all.times[b] })
	at := func(part float64) float64 {
		if len(all.times) == 0 {
			return 0
		}
		return all.times[int(part*float64(len(all.times)-1))].Seconds() * 1000
	}
	fmt.Printf(`{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"not_2xx":%d,"broken":%d}`+"\n",
		len(all.times), took.Seconds(), at(0.5), at(0.99), at(1), all.not2xx, all.broken)
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		log.Fatal(err)
	}
	return value
}
