-- What wrk sends: `get`, `put` (each write changes the date) or `same` (none does), to one of 10,000
-- people at random. All requests are made before the first is sent, so that making them costs nothing
-- while the clock runs. At the end prints one line of JSON.

local PEOPLE = 10000
local DATES = { "1960-01-31", "1971-02-28", "1982-03-15", "1993-04-30" }
local STORED = "1950-12-24" -- what the table is filled with; see fill.sql

local requests, dates, load

-- Person 407 is called "eah": usernames have no digits. See fill.sql.
local function name(number)
  local digit = function(decimal) return string.char(97 + tonumber(decimal)) end
  return (tostring(number):gsub("%d", digit))
end

local function put(person, date)
  local headers = { ["Content-Type"] = "application/json" }
  local body = '{"dateOfBirth":"' .. date .. '"}'
  return wrk.format("PUT", "/hello/" .. name(person), headers, body)
end

function init(args)
  load = args[1]
  math.randomseed(2026)
  requests, dates = {}, {}
  for person = 1, PEOPLE do
    dates[person] = 0
    if load == "get" then
      requests[person] = { wrk.format("GET", "/hello/" .. name(person)) }
    elseif load == "same" then
      requests[person] = { put(person, STORED) }
    else
      requests[person] = {}
      for index, date in ipairs(DATES) do
        requests[person][index] = put(person, date)
      end
    end
  end
end

function request()
  local person = math.random(PEOPLE)
  local of_person = requests[person]
  dates[person] = dates[person] % #of_person + 1
  return of_person[dates[person]]
end

function done(summary, latency, _requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
