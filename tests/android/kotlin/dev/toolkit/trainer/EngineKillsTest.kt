package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.MainActivity
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import kotlin.random.Random

/**
 * Runs whose engine alone is killed at random moments, while it opens, computes or saves; those of the whole process are
 * [NightKillsTest]'s. As many kills as the environment's TOOLKIT_SOAK says, else two, and two of a run at most: a third one
 * without anything saved ends it.
 */
@RunWith(RobolectricTestRunner::class)
class EngineKillsTest : ChildCase() {
    private val wanted = System.getenv("TOOLKIT_SOAK")?.toInt() ?: 2

    @Test
    fun `an engine that is killed at any moment loses nothing that was saved, and no screen says otherwise`() {
        var kills = 0
        var runs = 0
        while (kills < wanted) {
            kills += trained("run${++runs}", Random(runs))
            assertTrue("$kills kills in $runs runs", runs < MOST_RUNS * wanted)
        }
        println("after $kills kills of the engine alone, in $runs runs")
    }

    private fun trained(name: String, chance: Random): Int {
        Fixtures.create(app, name)
        app.controller.start(name)
        // From the dry run before it on to the last step, which here is a matter of some tenths of a second.
        val kills = (1..2).count { kill(name, chance.nextLong(0, 200)) }
        assertTrue(app.controller.join(60_000))
        val run = app.runs.require(name)
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        assertArrayEquals(name, Fixtures.referenceAdapter(), Fixtures.adapter(run))
        assertEquals(name, (1L..8L).toList(), TraceReader(run.trace).read().steps.map { it.step })
        return kills
    }

    /** Whether it came in time; then the run waits, says so, and has gone on from what it said was saved. */
    private fun kill(name: String, milliseconds: Long): Boolean {
        await("an engine") { Children.ids().isNotEmpty() || app.controller.active == null }
        Thread.sleep(milliseconds)
        val id = Children.ids().singleOrNull() ?: return false
        Children.send("-9", id)
        await("what comes of it") { app.controller.active.let { it == null || it.doing == Doing.WAITING || id !in Children.ids() } }
        await("the wait") { app.controller.active.let { it == null || it.doing == Doing.WAITING || it.doing == Doing.TRAINING } }
        // Its end or its dry run was hit, which changes nothing.
        val active = app.controller.active?.takeIf { it.doing == Doing.WAITING } ?: return false
        val shown = active.progress?.step ?: 0L
        await("the record") { app.runs.require(name).run { state == RunState.WAITING && step == shown } }
        val list = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the card") { Pictures.text(list.get(), "most likely for want of memory") }
        list.close()
        val opened = resumed(name).size
        Fixtures.advance(150_000)
        app.controller.recheck()
        await("that it goes on") { app.controller.active?.doing != Doing.WAITING }
        if (shown == 0L) return true
        await("where from") { resumed(name).size > opened }
        // More only where it was killed after the save and before it could say so.
        assertTrue("$shown shown, ${resumed(name)}", resumed(name).last() in setOf(shown, shown + 1))
        return true
    }

    private fun resumed(name: String): List<Long> =
        Regex("\"resumed_from\":(\\d+)").findAll(app.runs.require(name).trace.readText()).map { it.groupValues[1].toLong() }.toList()

    private companion object {
        const val MOST_RUNS = 20
    }
}
