# What cargo has downloaded on this machine. The context is its registry.
FROM scratch
COPY cache /cache
COPY index /index
