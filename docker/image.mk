# The image: `make image VARIANT=cpu`, `make pin`, `make pin-check`, `make sbom`, `make test-image`. docs/images.md says more.
VARIANT ?= cpu
# Wheels that no package index has, and a proxy's certificates: WHEELS=/opt/wheels CA=/etc/ssl/certs/ca-certificates.crt
WHEELS ?=
CA ?=
# For the pins also where this machine's own pip finds some.
FIND_LINKS = $(or $(WHEELS),$(shell $(VENV)/bin/pip config get global.find-links 2>/dev/null))
IMAGE = jobctl:$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/jobctl/__init__.py)-$(VARIANT)

.PHONY: image pin pin-check sbom test-image

image: $(VENV)/.run
	@$(VENV)/bin/python -m jobctl.docker.build --variant $(VARIANT) --tag $(IMAGE) \
	  $(if $(WHEELS),--find-links $(WHEELS)) $(if $(CA),--ca $(CA)) $(BUILD_OPTIONS)

$(VENV)/.images: $(VENV)/.run requirements/images.txt
	@$(PIP) install -r requirements/images.txt
	@touch $@

pin: $(VENV)/.images
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m jobctl.docker.pin $(if $(FIND_LINKS),--find-links $(FIND_LINKS)) $(PIN_OPTIONS)

pin-check: $(VENV)/.images
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m jobctl.docker.pin --check $(if $(FIND_LINKS),--find-links $(FIND_LINKS))
	@$(VENV)/bin/hadolint docker/Dockerfile

# What is in an image: syft looks into it; without syft, the pinned packages and their hashes.
SBOM ?= sbom-$(VARIANT).json
PINNED = $(VARIANT) no-deps
sbom: $(VENV)/.images
	@if command -v syft >/dev/null; then syft $(IMAGE) --output cyclonedx-json=$(SBOM); \
	else cat $(PINNED:%=docker/variants/%.txt) | $(VENV)/bin/cyclonedx-py requirements --output-file $(SBOM) -; fi
	@echo $(SBOM)

test-image: $(VENV)/.test
	@JOBCTL_REQUIRE_IMAGES=1 JOBCTL_WHOLE_SUITES=1 $(VENV)/bin/pytest tests/docker
