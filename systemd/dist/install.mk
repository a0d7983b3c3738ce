# make install DESTDIR=… · make deb
#
# Everything under systemd/dist/usr is installed at the path it has there; the programs and what they generate
# (man pages, completions, schemas) join it. Nothing else is installed, and nothing outside $(DESTDIR) is touched.

DIST := $(dir $(lastword $(MAKEFILE_LIST)))
# Where the built programs are.
BIN ?= target/release
# Which build of the launcher is installed.
LAUNCHER ?= $(BIN)/node-run
INSTALL ?= install

.PHONY: install
install: ## installs what `make build` built, under DESTDIR
	@for program in "$(BIN)/nodectl" "$(BIN)/noded" "$(LAUNCHER)" "$(BIN)/nodectl-generator"; do \
	  [ -x "$$program" ] || { echo "$$program is missing: run make build" >&2; exit 1; }; \
	done
	$(INSTALL) -D -m 0755 $(BIN)/nodectl "$(DESTDIR)/usr/bin/nodectl"
	$(INSTALL) -D -m 0755 -t "$(DESTDIR)/usr/libexec/nodectl" $(BIN)/noded $(LAUNCHER)
	$(INSTALL) -D -m 0755 -t "$(DESTDIR)/usr/lib/systemd/system-generators" $(BIN)/nodectl-generator
	@find "$(DIST)usr" -type f -printf '%P\n' | LC_ALL=C sort | while read -r file; do \
	  $(INSTALL) -D -m 0644 "$(DIST)usr/$$file" "$(DESTDIR)/usr/$$file" || exit 1; \
	done
	@find "$(DIST)usr" -type l -printf '%P %l\n' | LC_ALL=C sort | while read -r link to; do \
	  mkdir -p "$(DESTDIR)/usr/$${link%/*}" && ln -sfn "$$to" "$(DESTDIR)/usr/$$link" || exit 1; \
	done
	@set -e; generated=$$(mktemp -d); trap 'rm -rf "$$generated"' EXIT; \
	$(BIN)/nodectl generate --man "$$generated/man" --completions "$$generated/completions" --schema "$$generated/schema"; \
	$(INSTALL) -D -m 0644 -t "$(DESTDIR)/usr/share/man/man1" "$$generated"/man/*.1; \
	$(INSTALL) -D -m 0644 "$$generated/completions/nodectl.bash" "$(DESTDIR)/usr/share/bash-completion/completions/nodectl"; \
	$(INSTALL) -D -m 0644 -t "$(DESTDIR)/usr/share/zsh/vendor-completions" "$$generated/completions/_nodectl"; \
	$(INSTALL) -D -m 0644 -t "$(DESTDIR)/usr/share/fish/vendor_completions.d" "$$generated/completions/nodectl.fish"; \
	$(INSTALL) -D -m 0644 -t "$(DESTDIR)/usr/share/nodectl/schema" "$$generated"/schema/*.json

.PHONY: deb
deb: build ## a Debian package under target/debian
	LAUNCHER="$(abspath $(LAUNCHER))" $(DIST)debian-package/build.sh $(BIN) target/debian
