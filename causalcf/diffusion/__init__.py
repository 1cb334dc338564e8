"""The diffusion engine: schedule, denoiser, solvers, guidance, trajectory."""
