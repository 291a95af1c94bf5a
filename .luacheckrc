-- What luacheck knows of the two places where Lua runs here.
max_line_length = 140

-- Scripts of the gate: Redis runs them in its own Lua 5.1, which offers these globals.
files["lua"] = {
  std = "lua51",
  read_globals = { "redis", "KEYS", "ARGV", "struct", "cjson", "cmsgpack", "bit" },
}

-- Load scripts: wrk calls these functions and offers its own table; a thread has a number.
files["load-tests"] = {
  std = "luajit",
  globals = { "setup", "init", "request", "done", "thread_no" },
  read_globals = { "wrk" },
}
