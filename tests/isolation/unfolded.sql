-- Usage of one organization that nobody has folded yet.
select track_usage('{place}000000000000', '{place}000000000010', '/secret-{letter}', p_event_id => 'two',
  p_ip_address => '192.0.2.1');
