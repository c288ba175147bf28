# The one entry point; each target is a script of the same name, or nearly.

.PHONY: help run psql test bench lint install package clean reset

help:
	@echo 'make run      everything on this machine: PostgreSQL, the demo, a sign-in, the frontend'
	@echo 'make psql     the database of make run, as its superuser'
	@echo 'make test     every test (make test KIND="units extension regress isolation suite conformance")'
	@echo 'make bench    the speeds the project promises, measured'
	@echo 'make lint     rustfmt, clippy, cargo-deny, pgspot, the lints of catalogs, shellcheck'
	@echo 'make install  the extension into the PostgreSQL of this system (PG_CONFIG=…)'
	@echo 'make package  the extension as a tarball (PG_CONFIG=…)'
	@echo 'make clean    remove what was built; make reset: what make run keeps as well'

# A shell that starts this in the background may have SIGINT ignored, and the script could not undo that.
# Should make itself be killed, the script is told to stop.
run:
	@setpriv --pdeathsig TERM env --default-signal=INT scripts/run

psql:
	@scripts/psql

test:
	@scripts/test $(KIND)

bench:
	@scripts/bench

lint:
	@scripts/lint

install:
	@scripts/install-system $(PG_CONFIG)

package:
	@scripts/package $(PG_CONFIG)

clean:
	@scripts/clean

reset:
	@scripts/clean all
