package main

import (
	"context"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// As many as the api has: see STATEMENTS and MOST in api/src/store.
const (
	readers = 2
	writers = 4
	most    = 512
)

// The api's own statements: see api/src/store/queries.
const (
	readMany = `SELECT username, date_of_birth FROM hello_users WHERE username = ANY ($1::text[])`
	// The third parameter, for tries whose outcome is unknown, is left out: this service tries once.
	writeMany = `INSERT INTO hello_users (username, date_of_birth)
		SELECT username, date_of_birth FROM unnest($1::text[], $2::date[]) AS given (username, date_of_birth)
		WHERE NOT EXISTS (SELECT FROM hello_users AS stored
			WHERE stored.username = given.username AND stored.date_of_birth = given.date_of_birth)
		ORDER BY username COLLATE "C"
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now()`
)

// batcher puts concurrent requests into one statement, like the api: while one is in flight, arriving
// requests form the next batch.
type batcher struct{ reads, writes chan request }

type request struct {
	username string
	born     time.Time
	answer   chan answer
}

type answer struct {
	born time.Time
	err  error
}

func startBatcher(ctx context.Context, pool *pgxpool.Pool) batcher {
	b := batcher{make(chan request, most), make(chan request, most)}
	start := func(count int, queue chan request, run func(context.Context, *pgx.Conn, []request)) {
		for i := 0; i < count; i++ {
			connection, err := pool.Acquire(ctx)
			if err != nil {
				log.Fatal(err)
			}
			go work(ctx, connection.Conn(), queue, run)
		}
	}
	start(readers, b.reads, runReads)
	start(writers, b.writes, runWrites)
	return b
}

func (b batcher) read(ctx context.Context, username string) (time.Time, error) {
	return submit(ctx, b.reads, request{username: username})
}

func (b batcher) write(ctx context.Context, username string, born time.Time) error {
	_, err := submit(ctx, b.writes, request{username: username, born: born})
	return err
}

func submit(ctx context.Context, queue chan request, pending request) (time.Time, error) {
	pending.answer = make(chan answer, 1)
	select {
	case queue <- pending:
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	select {
	case found := <-pending.answer:
		return found.born, found.err
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

func work(ctx context.Context, connection *pgx.Conn, queue chan request,
	run func(context.Context, *pgx.Conn, []request)) {
	batch := make([]request, 0, most)
	for first := range queue {
		batch = append(batch[:0], first)
		for more := true; more && len(batch) < most; {
			select {
			case pending := <-queue:
				batch = append(batch, pending)
			default:
				more = false
			}
		}
		run(ctx, connection, batch)
	}
}

func runReads(ctx context.Context, connection *pgx.Conn, batch []request) {
	names := make([]string, len(batch))
	for i, pending := range batch {
		names[i] = pending.username
	}
	found := make(map[string]time.Time, len(batch))
	var name string
	var born time.Time
	rows, err := connection.Query(ctx, readMany, names)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &born}, func() error {
			found[name] = born
			return nil
		})
	}
	for _, pending := range batch {
		born, known := found[pending.username]
		if err == nil && !known {
			pending.answer <- answer{err: errUnknown}
		} else {
			pending.answer <- answer{born, err}
		}
	}
}

// runWrites keeps the last of those that have one name: a statement may not write a row twice.
func runWrites(ctx context.Context, connection *pgx.Conn, batch []request) {
	last := make(map[string]time.Time, len(batch))
	for _, pending := range batch {
		last[pending.username] = pending.born
	}
	names, dates := make([]string, 0, len(last)), make([]time.Time, 0, len(last))
	for name, born := range last {
		names, dates = append(names, name), append(dates, born)
	}
	_, err := connection.Exec(ctx, writeMany, names, dates)
	for _, pending := range batch {
		pending.answer <- answer{err: err}
	}
}
