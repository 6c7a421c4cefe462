{
  plain: { type: 'plain' },
  momentum: { type: 'momentum', keep: 0.5, schedule: { decay: 0.99 } },
}
