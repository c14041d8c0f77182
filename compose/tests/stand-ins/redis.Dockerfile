# Stands in for redis:7-bookworm, as far as docker-compose.yml uses it.
FROM causeway-stand-in/debian
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/*
CMD ["redis-server"]
