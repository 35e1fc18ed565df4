(** Does the theorem still hold for what the program keeps: ascending lists of
    recorded hits, and a queue of intervals?

    Here every worker and the stitcher see nothing but the segment's record.  The
    certified cut comes from the interval queue (Intervals.v), the cuts from reading
    the record once, front to back (Rule.v). *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule Gaps Queue Intervals Stitch.
Import ListNotations.

Section Program.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.

  (** The chunks of a worker, or the replay of a stitcher: the cuts below [e]. *)
  Definition walk (record : list (nat * bool)) (b e : nat) : list nat :=
    read_cuts min normal max record b e e.

  (** One segment, from its record alone; [record s x] are its hits before [x]. *)
  Definition put_recorded (record : nat -> nat -> list (nat * bool)) (final s e : nat) : list nat :=
    match certify_sparse min normal max (record s e) s e with
    | Some start => walk (record s (S start)) final (S start) ++ walk (record s e) start e
    | None => walk (record s e) final e
    end.

  Definition first_recorded (record : nat -> nat -> list (nat * bool)) (s e : nat) : list nat :=
    walk (record s e) s e.

  Lemma walk_is_cuts : forall h s e b x, nested h ->
    walk (recorded h s e) b x = cuts min max (own_hits min normal max h s e) b x.
  Proof.
    intros h s e b x N. unfold walk.
    rewrite (read_once _ _ _ sizes _ s) by exact (hits_from_ascending _ _ _ sizes h _ _).
    apply jump_agree. intros. now apply replay_finds_next_cut.
  Qed.

  (** Parallel = serial, for the program's own data: for every nested hits [h] of a file
      that occupies [o, n), every list of seek points, and every
      [1 <= min <= normal <= max]. *)
  Theorem program_equals_serial : forall h o n seeks, nested h ->
    stitched (put_recorded (recorded h)) (first_recorded (recorded h)) o n seeks
    = serial min max (plain min normal max h) o n.
  Proof.
    intros h o n seeks N.
    assert (sizes' := min_max_sizes _ _ _ sizes). assert (B := plain_bounded _ _ _ sizes h).
    apply (stitched_is_serial _ _ sizes' _ B).
    - intros s e final R L. unfold put_recorded.
      transitivity (put_certified min max (own_hits min normal max h)
                      (fun s e => certify_sparse min normal max (recorded h s e) s e) final s e).
      + unfold put_certified, list_from. destruct (certify_sparse _ _ _ _ _ _); now rewrite !walk_is_cuts.
      + apply (put_certified_serial _ _ sizes' _ B o); trivial; [now apply own_hits_view| |lia].
        intros start C. apply (certify_sparse_sound _ _ _ sizes h s e start); trivial; lia.
    - intros e. unfold first_recorded. rewrite walk_is_cuts by assumption.
      apply (own_list _ _ sizes' _ _ o e); trivial. now apply own_hits_view.
  Qed.
End Program.

(** * The model runs

    Inputs of 40 positions with seek points 13 and 26.  In each, one segment certifies
    and one is replayed; the expected values come from an independent model. *)

Definition of_lists (strict_hits loose_hits : list nat) : hits :=
  {| strict := among strict_hits; loose := among loose_hits |}.

Definition run (min normal max : nat) (h : hits) :=
  (certify_sparse min normal max (recorded h 13 26) 13 26,
   certify_sparse min normal max (recorded h 26 40) 26 40,
   stitched (put_recorded min normal max (recorded h)) (first_recorded min normal max (recorded h))
            0 40 [26; 13]).

Example second_segment_certifies :
  run 2 4 7 (of_lists [2; 4; 8; 9; 26; 29; 33; 39] [2; 4; 8; 9; 20; 26; 27; 29; 33; 39])
  = (None, Some 29, [2; 4; 8; 15; 20; 26; 29; 33; 39; 40]).
Proof. reflexivity. Qed.

Example forced_cuts_then_certified :
  run 2 3 7 (of_lists [3; 27; 36; 38; 39] [3; 8; 27; 36; 38; 39])
  = (None, Some 36, [3; 8; 15; 22; 27; 34; 36; 38; 40]).
Proof. reflexivity. Qed.

Example first_segment_certifies :
  run 3 5 10 (of_lists [4; 15; 22] [3; 4; 10; 12; 15; 19; 22; 25])
  = (Some 22, None, [4; 10; 15; 22; 32; 40]).
Proof. reflexivity. Qed.
