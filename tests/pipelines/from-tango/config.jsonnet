// Fits a line to noisy points, once with each optimizer, and says which came closest:
//   dispatch run config.jsonnet -D points=40 -D rate=0.05
local optimizers = import 'optimizers.libsonnet';
local names = std.objectFields(optimizers);
local points = std.parseInt(std.extVar('points'));
local rate = std.parseJson(std.extVar('rate'));

local fit(name) = {
  type: 'lines::fit',
  train: { type: 'ref', ref: 'split', key: 'train' },
  model: { type: 'linear', start: [0, 0] },
  optimizer: optimizers[name] { rate: rate },
  training: { epochs: 200, tolerance: 1e-9 },
  progress: false,
  step_resources: { cpu_count: 1 },
};

local score(name) = {
  type: 'lines.steps.Score',
  model: { type: 'ref', ref: 'fit_' + name },
  test: { type: 'ref', ref: 'split', key: 'test' },
  loss: 'l2',
};

{
  steps: {
    points: { type: 'noisy_line', count: points, slope: 2, intercept: -1 },
    split: { type: 'lines::split', points: { type: 'ref', ref: 'points' } },
    best: {
      type: 'best',
      scores: { [name]: { type: 'ref', ref: 'score_' + name } for name in names },
    },
    report: { type: 'print_report', best: { type: 'ref', ref: 'best' } },
  } + {
    ['fit_' + name]: fit(name)
    for name in names
  } + {
    ['score_' + name]: score(name)
    for name in names
  },
}
