package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// plain sends each request's own statement, which pgx prepares once per connection.
type plain struct{ pool *pgxpool.Pool }

const (
	readOne  = `SELECT date_of_birth FROM hello_users WHERE username = $1`
	writeOne = `INSERT INTO hello_users (username, date_of_birth) VALUES ($1, $2)
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now()`
)

func (p plain) read(ctx context.Context, username string) (time.Time, error) {
	var born time.Time
	err := p.pool.QueryRow(ctx, readOne, username).Scan(&born)
	if errors.Is(err, pgx.ErrNoRows) {
		return born, errUnknown
	}
	return born, err
}

func (p plain) write(ctx context.Context, username string, born time.Time) error {
	_, err := p.pool.Exec(ctx, writeOne, username, born)
	return err
}
