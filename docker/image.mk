# The image: `make image VARIANT=cpu`, `make pin`, `make pin-check`, `make sbom`, `make test-image`. docs/images.md says more.
VARIANT ?= cpu
# Wheels that no package index has, and a proxy's certificates: WHEELS=/opt/wheels CA=/etc/ssl/certs/ca-certificates.crt
WHEELS ?=
CA ?=
# To pin, also use the wheels of this machine's own pip configuration.
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

# List the contents of a built image: Python's and Debian's packages with their licences, as CycloneDX.
SBOM ?= sbom-$(VARIANT).json
sbom: $(VENV)/.run
	@engine=$$($(VENV)/bin/python -c 'from jobctl.docker.build import find_engine; print(find_engine())') \
	  && $$engine run --rm --network=none $(IMAGE) python3 -m jobctl.docker.inventory >$(SBOM).part \
	  && mv $(SBOM).part $(SBOM)
	@echo $(SBOM)

# For a GPU variant, run the suites of prep and of the trainer on this machine's CPU, with the torch of the variant.
test-image: $(VENV)/.test
	@JOBCTL_REQUIRE_IMAGES=1 JOBCTL_WHOLE_SUITES=1 JOBCTL_TEST_VARIANT=$(VARIANT) \
	  $(VENV)/bin/pytest $(if $(filter cpu,$(VARIANT)),tests/docker,tests/docker/test_suites.py)
