# Two-tissue fits of kinfitr with many starts, and their CPU time; run by test_fit_speed.py.
# Arguments: starts, output file, regions, folders of the sources of kinfitr and of nls.multstart, curves, input.
# The packages are read from their sources, so that only what they import must be installed
# (minpack.lm, pracma, purrr, tibble, dplyr, tidyr, lhs, rlang, cli, magrittr).
given <- commandArgs(TRUE)
suppressMessages({
  library(tibble)
  library(dplyr)
  library(purrr)
  library(magrittr)
})
multstart <- new.env(parent = globalenv())
sys.source(file.path(given[5], "R", "nls_multstart.R"), multstart)
parts <- c("kinfitr_2tcm.R", "kinfitr_miscfuncs.R", "kinfitr_bloodfuncs.R")
text <- unlist(lapply(file.path(given[4], "R", parts), readLines))
eval(parse(text = gsub("nls.multstart::nls_multstart", "multstart$nls_multstart", text, fixed = TRUE)), globalenv())
curves <- read.csv(given[6])
input <- as_tibble(read.csv(given[7]))
class(input) <- c("interpblood", class(input))
rows <- NULL
for (region in strsplit(given[3], ",")[[1]]) {
  set.seed(1)
  begin <- proc.time()
  fit <- suppressWarnings(twotcm(
    curves$Times / 60, curves[[region]], input,
    weights = curves$Weights, inpshift = 0.1438066, vB = 0.05,
    multstart_iter = as.integer(given[1])
  ))
  spent <- proc.time() - begin
  cpu <- spent[["user.self"]] + spent[["sys.self"]]
  rows <- rbind(rows, data.frame(region = region, cpu = cpu, fit$par[c("K1", "k2", "k3", "k4")]))
}
write.csv(rows, given[2], row.names = FALSE)
