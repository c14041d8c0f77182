// The hello service as one writes it in Go today: net/http, and pgx with its pool. A peer for the
// benchmark, with the rules of the api. With BATCH=1 it batches requests like the api; see batch.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errUnknown = errors.New("no user has this name")

// A store reads and writes dates of birth. A write has been committed when it returns.
type store interface {
	read(ctx context.Context, username string) (time.Time, error)
	write(ctx context.Context, username string, born time.Time) error
}

type service struct{ store store }

// main listens on $LISTEN, before the database $DATABASE_URL, whose pool_max_conns sizes the pool.
func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	var store store = plain{pool}
	if os.Getenv("BATCH") == "1" {
		store = startBatcher(ctx, pool)
	}
	mux := http.NewServeMux()
	mux.Handle("/hello/", service{store})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := pool.Ping(r.Context()); err != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: os.Getenv("LISTEN"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	username := strings.TrimPrefix(r.URL.Path, "/hello/")
	if !isUsername(username) {
		http.Error(w, "username must be 1 to 100 letters", http.StatusBadRequest)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.greet(w, r, username)
	case http.MethodPut:
		s.remember(w, r, username)
	default:
		w.Header().Set("Allow", "GET, PUT")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (s service) greet(w http.ResponseWriter, r *http.Request, username string) {
	born, err := s.store.read(r.Context(), username)
	if errors.Is(err, errUnknown) {
		http.Error(w, "User not found", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, "database unavailable", http.StatusServiceUnavailable)
		return
	}
	message := "Hello, " + username + "! "
	if days := daysToBirthday(born, today()); days == 0 {
		message += "Happy birthday!"
	} else {
		message += "Your birthday is in " + strconv.Itoa(days) + " day(s)"
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct {
		Message string `json:"message"`
	}{message})
}

func (s service) remember(w http.ResponseWriter, r *http.Request, username string) {
	var body struct {
		DateOfBirth string `json:"dateOfBirth"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&body); err != nil {
		http.Error(w, "malformed JSON", http.StatusBadRequest)
		return
	}
	born, err := time.Parse("2006-01-02", body.DateOfBirth)
	if err != nil || born.Year() < 1 || !born.Before(today()) {
		http.Error(w, "dateOfBirth must be a date before today", http.StatusBadRequest)
		return
	}
	if err := s.store.write(r.Context(), username, born); err != nil {
		http.Error(w, "database unavailable", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func isUsername(text string) bool {
	for _, letter := range []byte(text) {
		if (letter < 'A' || 'Z' < letter) && (letter < 'a' || 'z' < letter) {
			return false
		}
	}
	return 1 <= len(text) && len(text) <= 100
}

func today() time.Time {
	return time.Now().UTC().Truncate(24 * time.Hour)
}

func daysToBirthday(born, today time.Time) int {
	next := birthday(born, today.Year())
	if next.Before(today) {
		next = birthday(born, today.Year()+1)
	}
	return int(next.Sub(today) / (24 * time.Hour))
}

// birthday returns the day in a year; 29 February is the 28th where there is none.
func birthday(born time.Time, year int) time.Time {
	day := time.Date(year, born.Month(), born.Day(), 0, 0, 0, 0, time.UTC)
	if day.Month() != born.Month() {
		return day.AddDate(0, 0, -1)
	}
	return day
}
